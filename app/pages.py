"""The pages of the app: the page table, the configuration guard, and the notice on every page."""

from pathlib import Path

import streamlit as st

from app.widgets import account, guard, layout, session
from shpeft.support.markdown import plain

SIDEBAR = 200
"""Width in pixels; narrow screens hide it behind a button."""

ICON = str(Path(__file__).parent / "icon.png")

st.set_page_config(page_title="shpeft", page_icon=ICON, layout="wide", initial_sidebar_state=SIDEBAR)
guard.require_access_control()
guard.require_safe_settings()
account.require()
st.logo(ICON, size="large")


def batch() -> None:
    """Lead an old address of the Batch page to the worklist, which replaced it."""
    st.switch_page("views/diagnose/page.py", query_params=st.query_params.to_dict())


home = st.Page("views/home/page.py", title="Home", url_path="home", default=True)
groups = {
    "Use": [home, st.Page("views/diagnose/page.py", title="Diagnose", url_path="diagnose")],
    "Build": [
        st.Page("views/train/page.py", title="Train", url_path="train"),
        st.Page("views/runs/page.py", title="Runs", url_path="runs"),
    ],
    "Trust": [st.Page("views/evaluate/page.py", title="Evaluate", url_path="evaluate")],
    "Research": [
        st.Page("views/importance/page.py", title="Importance", url_path="importance"),
        st.Page("views/overlap/page.py", title="Overlap", url_path="overlap"),
        st.Page("views/attribution/page.py", title="Attribution", url_path="attribution"),
        st.Page("views/compare/page.py", title="Compare", url_path="compare"),
    ],
}
old = st.Page(batch, title="Batch", url_path="batch")
page = st.navigation([*(page for pages in groups.values() for page in pages), old], position="hidden")
with st.sidebar:  # Streamlit's own menu puts the groups' names into a list, where screen readers expect links alone
    for group, pages in groups.items():
        st.caption(plain(group))
        for entry in pages:
            st.page_link(entry, width="stretch")
    account.sidebar()
st.set_page_config(page_title=f"{page.title} · shpeft")
layout.notice()
with layout.error_boundary():
    session.libraries()
    if page is not home:  # Home shows at once
        session.load_libraries()
    page.run()

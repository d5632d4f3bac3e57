"""The app: ``streamlit run app/main.py``. Page table, configuration guard, and what stands on every page."""

from pathlib import Path

import shared
import streamlit as st

ICON = str(Path(__file__).parent / "icon.png")

st.set_page_config(page_title="shpeft", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
shared.guard()
shared.keep_settings()
page = st.navigation(
    [
        st.Page("views/train.py", title="Train", url_path="train", default=True),
        st.Page("views/importance.py", title="Importance", url_path="importance"),
        st.Page("views/overlap.py", title="Overlap", url_path="overlap"),
        st.Page("views/evaluate.py", title="Evaluate", url_path="evaluate"),
        st.Page("views/diagnose.py", title="Diagnose", url_path="diagnose"),
        st.Page("views/batch.py", title="Batch", url_path="batch"),
        st.Page("views/compare.py", title="Compare", url_path="compare"),
        st.Page("views/runs.py", title="Runs", url_path="runs"),
    ],
    position="top",
)
st.set_page_config(page_title=f"{page.title} · shpeft")
shared.banner()
with shared.boundary():
    shared.load_libraries()
    page.run()

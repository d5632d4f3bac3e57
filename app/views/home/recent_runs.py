"""Recent runs as cards, each with what it achieves."""

import streamlit as st

from app.widgets import layout, run_result, session
from shpeft.runs import RunFolder, list_runs
from shpeft.support.markdown import plain

MOST = 6
"""Cards on the page; the Runs page lists all runs."""

A_ROW = 3


def cards() -> None:
    """Draw the newest runs; the sentences on their results follow once the libraries are loaded."""
    if not (runs := list_runs()):
        return
    st.header("Recent runs", anchor=False)
    if session.libraries().is_set():
        _cards(runs[:MOST])
    else:
        _cards_while_loading(runs[:MOST])
    if len(runs) > MOST:
        st.page_link("views/runs/page.py", label=f"All {len(runs):,} runs", icon=":material/arrow_forward:")


@st.fragment(run_every=1)
def _cards_while_loading(runs: list[RunFolder]) -> None:
    if session.libraries().is_set():
        st.rerun()
    _cards(runs)


def _cards(runs: list[RunFolder]) -> None:
    for first in range(0, len(runs), A_ROW):
        for column, run in zip(st.columns(A_ROW, gap="medium"), runs[first : first + A_ROW], strict=False):
            with column.container(border=True, height="stretch"), layout.error_boundary():
                _card(run)


def _card(run: RunFolder) -> None:
    state = run.state.read()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(run.name)}**", width="content")
        label, color = run_result.STATUS[state.status]
        st.badge(label, color=color)
    st.caption(plain(layout.dataset_name(run.config.dataset.source)))
    if state.status == "finished" and session.libraries().is_set():
        st.write(plain(run_result.headline(run)))
    links = {"train": "Open"} | ({"diagnose": "Diagnose"} if state.status == "finished" else {})
    with st.container(horizontal=True):
        for page, link in links.items():
            if st.button(link, key=f"{page}-{run.name}", type="tertiary", icon=":material/arrow_forward:"):
                session.select_run(run.name)
                st.switch_page(f"views/{page}/page.py", query_params={"run": run.name})

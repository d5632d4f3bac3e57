"""Overlap: do two scores, or several runs, select the same weights, and how many by chance?"""

import streamlit as st

from app.views.overlap import between_runs, within_run

SCOPES = {
    "within": "Two scores of one run",
    "across": "Several runs",
}

st.title("Overlap", anchor=False)
scope = st.segmented_control(
    "Compare",
    list(SCOPES),
    default="within",
    required=True,
    format_func=SCOPES.__getitem__,
    key="set_overlap",
    persist_state="session",
    label_visibility="collapsed",
)
if scope == "within":
    within_run.score_overlap()
else:
    between_runs.run_overlap()

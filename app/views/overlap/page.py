"""Overlap: do two scores, or several runs, choose the same weights, and what would chance give?"""

import across
import shared
import streamlit as st
import within

SCOPES = {
    "within": "The two halves of one run",
    "across": "Several runs",
}

st.title("Overlap", anchor=False)
scope = st.segmented_control(
    "Compare",
    list(SCOPES),
    default="within",
    required=True,
    format_func=SCOPES.__getitem__,
    key=f"{shared.SETTING}overlap",
    label_visibility="collapsed",
)
if scope == "within":
    within.show()
else:
    across.show()

"""Step 2 of a new run: the class that must not be missed, and how surely it must be found."""

from typing import Any

import streamlit as st

from app.views.train.setting_widgets import about, advanced_paths, default_of, draw_all, help_of, widget_key
from shpeft.datasets import Dataset
from shpeft.support.markdown import plain
from shpeft.tasks import Regression

SURE = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


def choose(data: Dataset | None) -> dict[str, Any]:
    """Draw the question; left open, no class is singled out. Return the settings of the decision."""
    name, sensitivity = "decision.must_not_miss", "decision.sensitivity"
    number = data is not None and isinstance(data.task, Regression)
    classes = list(data.classes) if data and not number else []
    if st.session_state.get(widget_key(name)) not in (None, *classes):
        del st.session_state[widget_key(name)]  # chosen for other images
    left, right = st.columns([3, 2], gap="large")
    with left:
        chosen = st.segmented_control(
            about(name).label,
            classes,
            key=widget_key(name),
            persist_state="session",
            disabled=not classes,
            help=help_of(name),
            format_func=plain,
        )
        if number:
            st.caption("These images have a number and no classes: the result has a prediction interval instead.")
        elif not classes:
            st.caption("The classes appear once the images are there.")
        elif chosen is None:
            st.caption("Left open: the result says how many images of each class are found.")
    sure = right.select_slider(
        about(sensitivity).label,
        SURE,
        default_of(sensitivity),
        format_func=lambda share: f"{share:.0%}",
        key=widget_key(sensitivity),
        persist_state="session",
        disabled=chosen is None,
        help=help_of(sensitivity),
    )
    values = {"must_not_miss": chosen or "", "sensitivity": sure if chosen else default_of(sensitivity)}
    return values | draw_all(advanced_paths("decision"))

"""The settings that a first run does not need: how weights are scored, and how they are trained."""

from typing import Any

import streamlit as st

from app.views.train.setting_widgets import advanced_paths, draw_all


def advanced() -> dict[str, Any]:
    """Draw the advanced settings of selection, training and run; return their values by section and name."""
    sections: dict[str, Any] = {}
    for section in ("selection", "training"):
        sections[section] = draw_all(advanced_paths(section))
        st.divider()
    return sections | draw_all(advanced_paths(""))

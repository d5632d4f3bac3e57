"""The settings that a first run does not need: how weights are scored, and how they are trained."""

from typing import Any

from streamlit.delta_generator import DeltaGenerator

from app.views.train.setting_widgets import advanced_paths, draw_all


def advanced(selection: DeltaGenerator, training: DeltaGenerator, run: DeltaGenerator) -> dict[str, Any]:
    """Draw the advanced settings of selection, training and run; return their values by section and name.

    Args:
        selection, training, run: where to draw them.
    """
    values: dict[str, Any] = {}
    for section, home in (("selection", selection), ("training", training)):
        with home:
            values[section] = draw_all(advanced_paths(section))
    with run:
        return values | draw_all(advanced_paths(""))

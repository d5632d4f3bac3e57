"""How the app's charts behave: the reader's own browser saves them."""

from typing import Any

SAVABLE: dict[str, Any] = {
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "svg", "filename": "shpeft_chart", "scale": 1},
}
"""A button in the corner of the chart saves it as SVG, without the server; the other buttons are left out."""

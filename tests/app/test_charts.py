"""Charts for screen readers: each has an alternative text, and its numbers are in a table of the page."""

import ast
import base64
import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import rankdata
from streamlit.testing.v1 import AppTest

from shpeft.runs import RunFolder
from tests.helpers.app_pages import MAIN, open_page, until_done

Numbers = npt.NDArray[np.float64]
DECORATION = {"chance", "perfect calibration", "random order", "best epoch"}
"""Lines that do not depend on the data, and a mark on a line that is already drawn."""


def decode(values: object) -> Numbers:
    """Decode an array as plotly writes it; empty if it is not numeric."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"])).astype(float)
    flat = np.ravel(np.array(values if values is not None else [], dtype=object))
    return flat.astype(float) if all(isinstance(v, int | float) for v in flat) else np.array([])


def traces_of(app: AppTest) -> Iterator[tuple[str, str, Numbers]]:
    """Iterate over the kind, name and numbers of every trace."""
    for chart in app.get("plotly_chart"):
        for trace in json.loads(chart.proto.spec)["data"]:
            kind, sideways = (
                trace["type"],
                trace.get("orientation") == "h" or trace.get("name", "").startswith("by chance"),
            )
            shown = trace.get("mode") != "text" and trace.get("marker", {}).get("opacity", 1) > 0.1
            key = {"heatmap": "z", "bar": "x" if sideways else "y", "scatter": "x" if sideways else "y"}[kind]
            numbers = decode(trace.get(key))
            if shown and trace.get("name") not in DECORATION and np.isfinite(numbers).any():
                yield kind, trace.get("name", ""), numbers[np.isfinite(numbers)]


def is_in_table(kind: str, numbers: Numbers, columns: list[Numbers]) -> bool:
    """Check whether a column has the numbers; for a heatmap, whose colors may be logarithms or shares, their order."""
    if kind == "heatmap":
        order = sorted(rankdata(numbers.round(12)))
        return any(sorted(rankdata(column.round(12))) == order for column in columns) or _is_row_shares(
            numbers, columns
        )
    return any(np.isclose(column[:, None], numbers).any(0).all() for column in columns)


def _is_row_shares(numbers: Numbers, columns: list[Numbers]) -> bool:
    """Check whether the numbers are row shares of a table of counts, the confusion matrix."""
    side = int(len(numbers) ** 0.5)
    for at in range(len(columns) - side + 1):
        counts = columns[at : at + side]
        if side**2 == len(numbers) and all(len(column) == side for column in counts):
            table = np.stack(counts, 1)
            if np.allclose(100 * table / np.maximum(table.sum(1, keepdims=True), 1), numbers.reshape(side, side)):
                return True
    return False


@pytest.mark.parametrize("page", ["train", "importance", "overlap", "evaluate", "attribution"])
def test_the_numbers_of_every_chart_are_in_a_table(page: str, own_run: RunFolder) -> None:
    app = open_page(page, own_run.name)
    if page == "importance":
        app.selectbox(key="layer").set_value(app.selectbox(key="layer").options[0]).run()
    if page == "evaluate":
        app.selectbox(key=f"positive-{own_run.name}-0").set_value("exudates").run()
    if page == "attribution":
        until_done(app.segmented_control(key="set_origin").set_value("Test images").run())
    assert not app.error
    columns = [
        frame.value[name].dropna().to_numpy(float)
        for frame in app.dataframe
        for name in frame.value.select_dtypes("number")
    ]
    traces = list(traces_of(app))
    assert traces
    assert [name or kind for kind, name, numbers in traces if not is_in_table(kind, numbers, columns)] == []


def test_every_chart_has_an_alternative_text() -> None:
    calls = [
        (file.name, node)
        for file in MAIN.parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "plotly_chart"
    ]
    assert calls
    assert [name for name, call in calls if "alt" not in {keyword.arg for keyword in call.keywords}] == []

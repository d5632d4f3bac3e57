"""Charts for those who do not see them: each has an alternative, and its numbers stand in a table of the page."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import ast
import base64
import json
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import rankdata
from streamlit.testing.v1 import AppTest

from tests.test_app import MAIN, _own_settings, finished, opened, runs, with_run

DECORATION = {"chance", "calibrated", "answering at random", "kept epoch"}
"""Lines that are the same whatever the numbers, and a mark on a line that is drawn already."""


def decoded(values: object) -> np.ndarray:
    """Numbers as plotly writes them; empty where they are none."""
    if isinstance(values, dict):
        found = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
        return found.astype(float)
    values = np.ravel(np.array(values if values is not None else [], dtype=object))
    return values.astype(float) if all(isinstance(v, int | float) for v in values) else np.array([])


def drawn(app: AppTest) -> Iterator[tuple[str, str, np.ndarray]]:
    """Each trace's kind, name and numbers."""
    for chart in app.get("plotly_chart"):
        for trace in json.loads(chart.proto.spec)["data"]:
            kind, sideways = (
                trace["type"],
                trace.get("orientation") == "h" or trace.get("name", "").startswith("by chance"),
            )
            shown = trace.get("mode") != "text" and trace.get("marker", {}).get("opacity", 1) > 0.1
            key = {"heatmap": "z", "bar": "x" if sideways else "y", "scatter": "x" if sideways else "y"}[kind]
            numbers = decoded(trace.get(key))
            if shown and trace.get("name") not in DECORATION and np.isfinite(numbers).any():
                yield kind, trace.get("name", ""), numbers[np.isfinite(numbers)]


def told(kind: str, numbers: np.ndarray, columns: list[np.ndarray]) -> bool:
    """Whether a column holds the numbers; of a heatmap, whose colours may be logarithms or shares, their order."""
    if kind == "heatmap":
        order = sorted(rankdata(numbers.round(12)))
        return any(sorted(rankdata(column.round(12))) == order for column in columns) or _told_by_rows(numbers, columns)
    return any(np.isclose(column[:, None], numbers).any(0).all() for column in columns)


def _told_by_rows(numbers: np.ndarray, columns: list[np.ndarray]) -> bool:
    """Whether the numbers are the shares of the rows of a table of counts, the confusion matrix."""
    side = int(len(numbers) ** 0.5)
    for at in range(len(columns) - side + 1):
        counts = columns[at : at + side]
        if side**2 == len(numbers) and all(len(column) == side for column in counts):
            table = np.stack(counts, 1)
            if np.allclose(100 * table / np.maximum(table.sum(1, keepdims=True), 1), numbers.reshape(side, side)):
                return True
    return False


@pytest.mark.parametrize("page", ["train", "importance", "overlap", "evaluate", "diagnose"])
def test_the_numbers_of_every_chart_stand_in_a_table(page, with_run):
    app = opened(page, with_run)
    if page == "importance":
        app.selectbox(key="layer").set_value(app.selectbox(key="layer").options[0]).run()
    if page == "evaluate":
        app.selectbox(key=f"positive-{with_run}").set_value("exudates").run()
    if page == "diagnose":
        app.segmented_control(key="set_origin").set_value("A test image of this run").run()
        app.toggle(key="set_weights").set_value(True).run()
    assert not app.error
    columns = [
        frame.value[name].dropna().to_numpy(float)
        for frame in app.dataframe
        for name in frame.value.select_dtypes("number")
    ]
    traces = list(drawn(app))
    assert traces
    assert [name or kind for kind, name, numbers in traces if not told(kind, numbers, columns)] == []


def test_every_chart_has_an_alternative():
    calls = [
        (file.name, node)
        for file in MAIN.parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "plotly_chart"
    ]
    assert calls
    assert [name for name, call in calls if "alt" not in {keyword.arg for keyword in call.keywords}] == []

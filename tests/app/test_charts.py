"""Every chart of the app is drawn by one function, which gives it the menu *Save as*."""

import ast
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).parents[2] / "app"

CHARTS = APP / "widgets" / "charts.py"


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of a function or method of this name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [c for c in nodes if name in (getattr(c.func, "attr", ""), getattr(c.func, "id", ""))]


def test_no_page_draws_a_chart_by_itself() -> None:
    drawing = [path.relative_to(APP) for path in APP.rglob("*.py") if calls(path, "plotly_chart")]
    assert drawing == [CHARTS.relative_to(APP)]
    for other in ("altair_chart", "line_chart", "bar_chart", "scatter_chart", "pyplot", "vega_lite_chart"):
        assert not any(calls(path, other) for path in APP.rglob("*.py"))


def test_there_are_charts_on_the_pages_and_each_says_what_it_shows() -> None:
    drawn = [call for path in APP.rglob("*.py") for call in calls(path, "chart")]
    assert len(drawn) >= 20
    assert all({"key", "alt"} <= {keyword.arg for keyword in call.keywords} for call in drawn)


def _page() -> None:
    import plotly.graph_objects as go

    from app.widgets.charts import chart

    for key in ("first", "second"):
        chart(go.Figure().add_scatter(x=[0, 1], y=[1, 2]), key=key, alt="A line")


def test_every_chart_has_its_own_menu() -> None:
    page = AppTest.from_function(_page).run(timeout=30)
    assert not page.exception
    assert len(page.get("plotly_chart")) == 2
    assert len(page.get("popover")) == 2
    assert [button.proto.id.rpartition("-")[2] for button in page.get("download_button")] == ["first", "second"]
    assert [number.value for number in page.number_input] == [85, 85]

"""The figures of a comparison's report hold its numbers, and become files with and without a browser."""

import sys
from pathlib import Path

import pytest

from shpeft import figures


def test_figures_hold_the_numbers() -> None:
    drawn = figures.paired_differences(
        ["a", "b", "c"], [0.02, -0.01, 0.0], [(0.01, 0.03), (-0.02, -0.005), (-0.01, 0.02)]
    )
    points = drawn.data[0]
    assert list(points.x) == pytest.approx([2, -1, 0])
    assert list(points.error_x.array) == pytest.approx([1, 0.5, 2])
    assert len(set(points.marker.color)) == 3
    assert points.marker.symbol == ("triangle-right", "triangle-left", "circle-open")  # not by color alone
    less = figures.paired_differences(["a"], [-0.1], [(-0.2, -0.05)], larger_is_better=False)
    assert less.data[0].marker.color[0] == points.marker.color[0]
    ranks = figures.mean_ranks(["a", "b"], [1.5, 2.5], "a", 0.6)
    assert list(ranks.data[0].x) == [1.5, 2.5]
    assert [ranks.layout.shapes[0].x0, ranks.layout.shapes[0].x1] == pytest.approx([0.9, 2.1])
    by_score = {"product": [(0.6, 0.75), (0.7, 0.9)]}
    lines = figures.metric_by_budget({"product": ([1e-4, 1e-2], [0.7, 0.8])}, {"full": 0.9}, intervals=by_score)
    assert list(lines.data[0].x) == pytest.approx([0.01, 1])
    assert list(lines.data[0].error_y.array) == pytest.approx([5, 10])
    assert list(figures.metric_by_trained_share(["probe", "full"], [0, 1], [0.5, 0.9]).data[0].x) == [10, 100]
    marks = figures.metric_by_trained_share(["a", "b", "c", "d"], [0, 0.1, 0.1, 1], [0.5, 0.6, 0.4, 0.55], "c").data[0]
    assert list(marks.text) == ["a", "b", "c", ""]  # d trains more than b and is worse
    shared = figures.shared_weights(["a"], [0.1], [0.001])
    assert list(shared.data[1].x) == pytest.approx([0.1])
    for nothing in (figures.paired_differences([], [], []), figures.mean_ranks([], []), figures.metric_by_budget({})):
        assert nothing.layout.annotations


@pytest.mark.parametrize("browser", [True, False])
def test_figures_become_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: bool) -> None:
    if not browser:
        monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    paths = figures.save({"ranks": figures.mean_ranks(["an arm"], [1.0])}, tmp_path / "figures")
    assert list(paths) == ["ranks"]
    text = paths["ranks"].read_text()
    assert "an arm" in text
    assert "cdn." not in text
    if not browser:
        assert paths["ranks"].suffix == ".html"
        assert (tmp_path / "figures" / "plotly.min.js").exists()
    elif paths["ranks"].suffix == ".svg":
        assert text.startswith("<svg")
        again = figures.save({"ranks": figures.mean_ranks(["an arm"], [1.0])}, tmp_path / "again")
        assert again["ranks"].read_text() == text

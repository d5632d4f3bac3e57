"""Names from data are text in every figure: plotly's own markup in one is shown, not obeyed."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from shpeft import figures
from shpeft.backbones import WeightInfo
from shpeft.diagnosis import Diagnosis
from shpeft.evaluation.predict import Predictions
from shpeft.explanation.attribution import LayerAttribution, StrengthCurve
from shpeft.figures.theme import as_text, empty_figure
from shpeft.importance.attention_heads import HeadSummary
from shpeft.importance.layer_summaries import LayerSummary
from shpeft.selection.overlap import LayerOverlap, Overlap
from shpeft.selection.set_overlap import overlaps
from shpeft.selection.top_k import Support
from shpeft.support.headless_browser import unavailable_reason
from shpeft.tasks import Regression

NAME = '<b>N</b><a href="//evil.example">M</a> %{marker.size} &lt;i&gt;'
OTHER = f"other {NAME}"
RAW = ("<b>N", "<a ", "%{marker", " &lt;i")
"""What plotly would obey."""


def summary(block: str, depth: int) -> LayerSummary:
    edges = tuple(-8 + i / 2 for i in range(17))
    counts = (5, 0, 0, 0, 0, 0, 0, 0, 10, 40, 30, 10, 5, 0, 0, 0)
    return LayerSummary(
        f"{block}.w", block, NAME, depth, 1000, 12, 1e-3, 0.1, (1e-7, 1e-4, 2e-4, 4e-4, 1e-2), counts, edges
    )


def every_figure() -> dict[str, go.Figure]:
    """Draw each figure with hostile names wherever it takes one."""
    summaries = [summary(NAME, 1), summary(OTHER, 2)]
    agreement = Overlap(
        4, 15, 35, 3000, 4 / 46, 4 / 15, 0.175, 0.004, 0, 1, 1e-5, 1.0,
        (LayerOverlap(NAME, NAME, NAME, 4, 10, 20, 1000, 0.2, 0, 1),),
    )  # fmt: skip
    parts = [LayerAttribution(NAME, NAME, NAME, 1, 10, 0.25, 0.75)]
    predictions = Predictions(("a", "b"), (0, 1), ("a", "b"), (NAME, OTHER), np.array([[0.7, 0.3], [0.4, 0.6]]))
    numbers_of = Predictions(
        ("a", "b"), (1.0, 2.0), ("a", "b"), (NAME,), np.array([[1.5], [2.5]]), task=Regression(unit=NAME)
    )
    info = WeightInfo("w", (60, 20), 1200, 1, NAME, "w")
    supports = {name: Support({"w": torch.tensor([1, 2])}, {"w": (60, 20)}, 1200) for name in (NAME, OTHER)}
    sets = overlaps(supports, (info,))
    heads = HeadSummary((NAME, OTHER), np.ones((2, 2)), np.array([[1, 2], [3, 4]]), 10)
    curve = StrengthCurve((NAME, OTHER), (0.0, 1.0), ((0.8, 0.2), (0.1, 0.9)))
    titles, numbers = [NAME, OTHER], [0.1, 0.2]
    return {
        **{q: figures.importance_heatmap(summaries, q, unit=NAME) for q in figures.QUANTITIES},
        "layer_histogram": figures.layer_histogram(summaries[0], unit=NAME),
        "density_by_depth": figures.density_by_depth(summaries),
        "overlap_counts": figures.overlap_counts(agreement, (NAME, OTHER)),
        "overlap_bars": figures.overlap_bars(agreement, (NAME, OTHER)),
        "probability_bars": figures.probability_bars(Diagnosis((NAME, OTHER), (0.3, 0.7), OTHER, OTHER, None, (9, 9))),
        "attribution_heatmap": figures.attribution_heatmap(parts),
        "predicted_against_true": figures.predicted_against_true(numbers_of),
        "prediction_errors": figures.prediction_errors(numbers_of),
        "strength_curve": figures.strength_curve(curve),
        "confusion_matrix": figures.confusion_matrix(predictions),
        "overlap_matrix": figures.overlap_matrix(sets),
        "selected_by_block": figures.selected_by_block(sets),
        "upset_plot": figures.upset_plot(sets),
        "score_by_head": figures.score_by_head(heads, NAME),
        "selected_by_head": figures.selected_by_head(heads),
        "mean_ranks": figures.mean_ranks(titles, [1.0, 2.0], NAME, 0.5),
        "paired_differences": figures.paired_differences(titles, numbers, [(0, 0.2), (0.1, 0.3)], unit=NAME),
        "metric_by_budget": figures.metric_by_budget({NAME: (numbers, numbers)}, {OTHER: 0.5}, unit=NAME),
        "metric_by_trained_share": figures.metric_by_trained_share(titles, numbers, numbers, NAME, unit=NAME),
        "shared_weights": figures.shared_weights(titles, numbers, numbers),
        "empty": empty_figure(NAME),
    }


NO_NAMES = {
    "overlap_by_budget",
    "precision_recall_curve",
    "reliability_diagram",
    "risk_coverage_curve",
    "roc_curve",
    "selected_in_grid",
    "threshold_curves",
    "training_curves",
}
"""Figures that show no name from data."""


def shown(part: Any) -> Any:
    """Return a figure without what plotly does not draw: the data of clicks and the alternative text."""
    if isinstance(part, dict):
        return {key: shown(value) for key, value in part.items() if key not in ("customdata", "meta", "template")}
    return [shown(value) for value in part] if isinstance(part, list) else part


def test_every_figure_is_tested() -> None:
    drawn = {name for name in figures.__all__ if name.islower()} - {"images", "save", "alt_text", "importance_heatmap"}
    assert drawn - NO_NAMES == every_figure().keys() - {*figures.QUANTITIES, "empty"}


def test_no_name_is_markup() -> None:
    for name, figure in every_figure().items():
        text = json.dumps(shown(json.loads(figure.to_json())), ensure_ascii=False)
        assert "&lt;b&gt;N" in text, name
        for raw in RAW:
            assert raw not in text.replace('\\"', '"'), (name, raw)


def test_the_data_of_clicks_is_the_name_itself() -> None:
    *_, squares = every_figure()["confusion_matrix"].data
    assert list(squares.customdata[1]) == [NAME, OTHER]


@pytest.mark.browser
@pytest.mark.skipif(bool(unavailable_reason()), reason="no Chromium")
def test_plotly_shows_the_name_as_it_is(tmp_path: Path) -> None:
    figures.save({"bars": every_figure()["probability_bars"]}, tmp_path, formats=("svg",))
    root = ElementTree.fromstring((tmp_path / "bars.svg").read_text())
    texts = {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text")}
    assert {NAME, OTHER} <= texts
    assert not [node for node in root.iter() if node.tag.endswith("}a")]
    assert as_text(NAME) not in texts

"""Plotly figures with one theme, a unit on every axis, and an alternative text.

The figures of a paper, from a finished run::

    from shpeft import figures, pipeline, runs

    run = runs.find_run("first")
    drawn = {
        "importance": figures.importance_heatmap(run.scores.summaries()),
        "overlap": figures.overlap_counts(pipeline.overlap_within(run)),
        "training": figures.training_curves(run.history.read()),
        "reliability": figures.reliability_diagram(run.predictions.test(), run.reliability.read()),
    }
    figures.save(drawn, "paper")
"""

from shpeft.figures.attention_heads import score_by_head, selected_by_head, selected_in_grid
from shpeft.figures.comparison import (
    mean_ranks,
    metric_by_budget,
    metric_by_trained_share,
    paired_differences,
    shared_weights,
)
from shpeft.figures.diagnosis import attribution_heatmap, probability_bars, strength_curve
from shpeft.figures.evaluation import (
    confusion_matrix,
    precision_recall_curve,
    reliability_diagram,
    risk_coverage_curve,
    roc_curve,
    threshold_curves,
)
from shpeft.figures.importance_heatmap import QUANTITIES, density_by_depth, importance_heatmap, layer_histogram
from shpeft.figures.overlap import overlap_bars, overlap_counts
from shpeft.figures.regression import predicted_against_true, prediction_errors
from shpeft.figures.save import FORMATS, images, save
from shpeft.figures.theme import TEMPLATE, alt_text
from shpeft.figures.training_curves import training_curves
from shpeft.figures.upset import overlap_by_budget, overlap_matrix, selected_by_block, upset_plot

__all__ = [
    "FORMATS",
    "QUANTITIES",
    "TEMPLATE",
    "alt_text",
    "attribution_heatmap",
    "confusion_matrix",
    "density_by_depth",
    "images",
    "importance_heatmap",
    "layer_histogram",
    "mean_ranks",
    "metric_by_budget",
    "metric_by_trained_share",
    "overlap_bars",
    "overlap_by_budget",
    "overlap_counts",
    "overlap_matrix",
    "paired_differences",
    "precision_recall_curve",
    "predicted_against_true",
    "prediction_errors",
    "probability_bars",
    "reliability_diagram",
    "risk_coverage_curve",
    "roc_curve",
    "save",
    "score_by_head",
    "selected_by_block",
    "selected_by_head",
    "selected_in_grid",
    "shared_weights",
    "strength_curve",
    "threshold_curves",
    "training_curves",
    "upset_plot",
]

"""Training curves: loss and validation metrics by epoch."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from shpeft.figures.theme import BLUE, GRAY, GREEN, ORANGE, TEMPLATE, empty_figure, with_alt
from shpeft.training.loop import EpochReport


def training_curves(history: Sequence[EpochReport]) -> go.Figure:
    """Draw loss (left) and validation metrics (right) over the epochs of a run; a star marks the result.

    Epoch 0 is the start, which has no training loss. Of a regression the loss is drawn alone.

    Args:
        history: such as ``run.history.read()``; it may be incomplete.
    """
    if not history:
        return empty_figure("No epoch has finished yet.", 280)
    epochs = [report.epoch for report in history]
    measured = any(math.isfinite(report.val_auroc) for report in history) or not math.isfinite(history[-1].val_loss)
    figure = make_subplots(1, 2 if measured else 1, horizontal_spacing=0.12)
    figure.update_layout(template=TEMPLATE, height=300, hovermode="x unified")

    def line(name: str, values: list[float], column: int, color: str, dash: str = "solid") -> None:
        figure.add_scatter(
            x=epochs,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2, "dash": dash},
            marker={"size": 5},
            cliponaxis=False,
            hovertemplate="%{y:.3f}",
            row=1,
            col=column,
        )

    line("training loss", [report.loss for report in history], 1, BLUE)
    line("validation loss", [report.val_loss for report in history], 1, ORANGE)
    if measured:
        line("validation AUROC", [report.val_auroc for report in history], 2, GREEN)
    if any(math.isfinite(report.val_balanced_accuracy) for report in history):
        line("balanced accuracy", [report.val_balanced_accuracy for report in history], 2, GRAY, "dot")
    best = [report for report in history if report.best][-1:]
    figure.add_scatter(
        x=[report.epoch for report in best],
        y=[report.val_loss for report in best],
        name="result",
        mode="markers",
        marker={"symbol": "star", "size": 14, "color": ORANGE},
        cliponaxis=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )
    last = history[-1].epochs
    figure.update_xaxes(
        title_text="epoch", range=[epochs[0] - 0.5, last + 0.5], dtick=max(1, round(last / 10)), tick0=0
    )
    metrics = [value for report in history for value in (report.val_auroc, report.val_balanced_accuracy)]
    lowest = min([0.5, *filter(math.isfinite, metrics)])
    figure.update_yaxes(title_text="cross-entropy" if measured else "half the squared error", rangemode="tozero", col=1)
    if measured:
        metric = {"title_text": "validation metric", "range": [lowest - 0.02, 1.02]}
        figure.update_yaxes(**metric, side="right", automargin=True, col=2)  # clear of the left chart on narrow pages
    what = "loss and validation metrics" if measured else "training and validation loss"
    return with_alt(figure, f"Lines: {what} over {epochs[-1]} of {last} epochs")

"""Figures of a run and of a diagnosis: how training went, and how probable each class is."""

import math
from collections.abc import Sequence
from typing import Protocol

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from shpeft.figures.theme import BLUE, GREEN, GREY, ORANGE, TEMPLATE, empty, figure
from shpeft.training import EpochReport


def training_curves(history: Sequence[EpochReport]) -> go.Figure:
    """Loss on the left, validation metrics on the right, over the whole run's epochs; a star marks the kept epoch."""
    if not history:
        return empty("No epoch has ended yet.", 280)
    epochs = [report.epoch for report in history]
    drawn = make_subplots(1, 2, horizontal_spacing=0.12)
    drawn.update_layout(template=TEMPLATE, height=300, hovermode="x unified")

    def line(name: str, values: list[float], column: int, color: str, dash: str = "solid") -> None:
        drawn.add_scatter(
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
    line("validation AUROC", [report.val_auroc for report in history], 2, GREEN)
    line("balanced accuracy", [report.val_balanced_accuracy for report in history], 2, GREY, "dot")
    kept = [report for report in history if report.best][-1:]
    drawn.add_scatter(
        x=[report.epoch for report in kept],
        y=[report.val_loss for report in kept],
        name="kept epoch",
        mode="markers",
        marker={"symbol": "star", "size": 14, "color": ORANGE},
        cliponaxis=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )
    last = history[-1].epochs
    drawn.update_xaxes(title_text="epoch", range=[0.5, last + 0.5], dtick=max(1, round(last / 10)), tick0=1)
    metrics = [value for report in history for value in (report.val_auroc, report.val_balanced_accuracy)]
    lowest = min([0.5, *filter(math.isfinite, metrics)])
    drawn.update_yaxes(title_text="cross-entropy", rangemode="tozero", col=1)
    return drawn.update_yaxes(title_text="validation metric", range=[lowest - 0.02, 1.02], col=2)


class _Ranked(Protocol):
    """A diagnosis, as far as it is drawn."""

    def ranked(self) -> list[tuple[str, float]]:
        """(class, probability), the most probable first."""
        ...


def probability_bars(diagnosis: _Ranked) -> go.Figure:
    """The probability of each class, the most probable on top."""
    names, shares = zip(*diagnosis.ranked(), strict=True)
    drawn = figure(70 + 34 * len(names))
    drawn.add_bar(
        x=shares,
        y=names,
        orientation="h",
        marker={"color": [BLUE] + [GREY] * (len(names) - 1)},
        text=[f"{share:.1%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="the model gives %{y} a probability of %{x:.1%}<extra></extra>",
    )
    drawn.update_xaxes(title_text="probability", range=[0, 1.15], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%")
    return drawn.update_yaxes(type="category", autorange="reversed", showgrid=False)

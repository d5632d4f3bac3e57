"""Summarize the scores of each parameter in the few numbers that the heatmap and its details show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shpeft.importance.scores import Scores

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
"""The quantiles of a parameter's scores that a summary holds."""

DECADES = 8
"""Powers of ten that a summary's histogram covers, down from the largest score."""


@dataclass(frozen=True)
class LayerSummary:
    """The scores of one parameter in a few numbers.

    Attributes:
        name, block, matrix, depth, numel: the parameter's; see ``WeightInfo``.
        selected: the number of its weights in the support.
        mean, maximum: of its scores.
        quantiles: the scores at ``QUANTILES``.
        counts: (bins,) weights in each bin of log10(score); scores below the lowest edge count in the first bin.
        edges: (bins + 1,) the bins' edges, log10; the same for all parameters of one score.
    """

    name: str
    block: str
    matrix: str
    depth: int
    numel: int
    selected: int
    mean: float
    maximum: float
    quantiles: tuple[float, ...]
    counts: tuple[int, ...]
    edges: tuple[float, ...]

    def __repr__(self) -> str:
        return f"LayerSummary({self.name}, {self.selected:,} of {self.numel:,} weights selected, mean {self.mean:.3g})"

    @property
    def density(self) -> float:
        """The fraction of its weights that is selected."""
        return self.selected / self.numel

    def bins(self) -> list[tuple[float, float, int]]:
        """Return the histogram: lowest and highest score, and number of weights, of each bin."""
        edges = [10.0**edge for edge in self.edges]
        return list(zip([0.0, *edges[1:-1]], edges[1:], self.counts, strict=True))


def summarize(scores: Scores, selected: dict[str, int] | None = None) -> list[LayerSummary]:
    """Summarize each parameter's scores, in the model's order.

    Args:
        scores: any scores. The quota hybrid has none, so that its task-specific half is summarized.
        selected: for each parameter that has any, the number of its weights in the support.
    """
    values = scores.values or (scores.halves[0].values if scores.halves else {})
    top = max((float(v.max()) for v in values.values()), default=0.0)
    high = float(np.log10(top)) if top > 0 else 0.0
    edges = np.linspace(high - DECADES, high, 5 * DECADES + 1)
    summaries = []
    for info in scores.infos:
        v = values[info.name].reshape(-1).numpy()
        with np.errstate(divide="ignore"):
            logs = np.clip(np.log10(v), edges[0], edges[-1])
        summaries.append(
            LayerSummary(
                name=info.name,
                block=info.block,
                matrix=info.matrix,
                depth=info.depth,
                numel=info.numel,
                selected=(selected or {}).get(info.name, 0),
                mean=float(v.mean(dtype=np.float64)),
                maximum=float(v.max()),
                quantiles=tuple(float(q) for q in np.quantile(v, QUANTILES)),
                counts=tuple(int(c) for c in np.histogram(logs, edges)[0]),
                edges=tuple(float(e) for e in edges),
            )
        )
    return summaries


def reselected(summaries: Sequence[LayerSummary], counts: Mapping[str, int]) -> list[LayerSummary]:
    """Return summaries of the same scores with other numbers of selected weights."""
    return [replace(summary, selected=counts.get(summary.name, 0)) for summary in summaries]


def half_of_selected(summaries: Sequence[LayerSummary]) -> list[LayerSummary]:
    """Return the fewest parameters that hold at least half of the selected weights, the largest number first."""
    ordered = sorted(summaries, key=lambda s: -s.selected)
    held = np.cumsum([s.selected for s in ordered])
    return ordered[: int(np.searchsorted(held, held[-1] / 2)) + 1] if len(held) and held[-1] else []

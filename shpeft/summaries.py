"""Summaries: the scores of each parameter in a few numbers, enough for the heatmap and its details."""

from dataclasses import dataclass

import numpy as np

from shpeft.importance import Scores

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
DECADES = 8
"""How many powers of ten below the largest score a summary's histogram reaches."""


@dataclass(frozen=True)
class LayerSummary:
    """The scores of one parameter in a few numbers, enough for the heatmap and its details.

    Attributes:
        selected: how many of its weights the support holds.
        quantiles: at 1, 25, 50, 75 and 99 %.
        counts: weights in each bin of log10(score); scores below the lowest edge are counted in the first bin.
        edges: the bins' edges, log10, one more than counts; the same for all layers of one score.
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

    @property
    def density(self) -> float:
        """The selected fraction of its weights."""
        return self.selected / self.numel


def summarise(scores: Scores, selected: dict[str, int] | None = None) -> list[LayerSummary]:
    """Summaries of each parameter's scores, in the model's order.

    Args:
        scores: any scores; of the quota hybrid, which has no numbers, its task-specific half is summarised.
        selected: how many weights of each parameter the support holds.
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

"""Summaries: the scores of each parameter in a few numbers, enough for the heatmap and its details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shpeft.config import SelectionConfig
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

    def bins(self) -> list[tuple[float, float, int]]:
        """The histogram: lowest and highest score of each bin, and how many weights it holds."""
        edges = [10.0**edge for edge in self.edges]
        return list(zip([0.0, *edges[1:-1]], edges[1:], self.counts, strict=True))


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


def reselected(summaries: Sequence[LayerSummary], counts: Mapping[str, int]) -> list[LayerSummary]:
    """The same scores with another selection."""
    return [replace(summary, selected=counts.get(summary.name, 0)) for summary in summaries]


def half_of_selected(summaries: Sequence[LayerSummary]) -> list[LayerSummary]:
    """The fewest parameters that hold at least half of what is selected, the fullest first."""
    ordered = sorted(summaries, key=lambda s: -s.selected)
    held = np.cumsum([s.selected for s in ordered])
    return ordered[: int(np.searchsorted(held, held[-1] / 2)) + 1] if len(held) and held[-1] else []


@dataclass(frozen=True)
class Meaning:
    """What a score's numbers say.

    Attributes:
        unit: as it stands at a colour bar.
        words: a sentence for people.
    """

    unit: str
    words: str


def meaning(wanted: SelectionConfig, which: str = "hybrid") -> Meaning:
    """What the numbers of a run's score say, or those of one half of it: ``task-specific task-agnostic``."""
    form = {"gradient": "l1", "fisher": "l2"}.get(wanted.score, wanted.norm)
    if which == "task-agnostic" or (which == "hybrid" and wanted.score == "magnitude"):
        return _MAGNITUDE[form]
    if which == "task-specific" or wanted.score in ("gradient", "fisher"):
        return _gradient(form, wanted.expectation)
    if wanted.score == "wanda":
        return Meaning(
            "weight × input",
            "The size of a weight times the norm of the input that it multiplies, over all images: how much it adds to "
            "what its layer says.",
        )
    if wanted.score == "random":
        return Meaning("drawn from 0 to 1", "A number drawn at random: it says nothing of the weight.")
    if wanted.formula == "sum":
        return Meaning(_SUMS[wanted.normaliser][0], _SUMS[wanted.normaliser][1].format(1 - wanted.lam, wanted.lam))
    if wanted.formula == "quota":
        return Meaning(
            _gradient(form, wanted.expectation).unit,
            "This hybrid has no numbers of its own: each half chooses its quota. Shown are the task-specific scores.",
        )
    return _PRODUCT[form]


_MAGNITUDE = {
    "l1": Meaning("|weight|", "The size of the pretrained weight, whatever the task."),
    "l2": Meaning("weight²", "The square of the pretrained weight, whatever the task."),
}
_PRODUCT = {
    "l1": Meaning(
        "nats",
        "About how much the training loss (cross-entropy, in nats) would change if this weight were set to 0, to first "
        "order.",
    ),
    "l2": Meaning(
        "nats²",
        "About the square of how much the training loss (cross-entropy, in nats) would change if this weight were set "
        "to 0, to first order.",
    ),
}
_SUMS = {
    "mean": (
        "multiples of the mean",
        "{:g} × the task-specific plus {:g} × the task-agnostic score, each divided by its mean over all weights: an "
        "average weight has 1.",
    ),
    "max": (
        "shares of the highest",
        "{:g} × the task-specific plus {:g} × the task-agnostic score, each divided by its highest: a weight that is "
        "first in both has 1.",
    ),
    "rank": (
        "rank, 1 is the highest",
        "{:g} × the task-specific plus {:g} × the task-agnostic rank, each from 0 to 1: a weight that is first in both "
        "has 1.",
    ),
}


def _gradient(form: str, expectation: str) -> Meaning:
    of = {"batch": "the loss of a batch", "image": "the loss of an image", "all": "the mean loss of all images"}
    on_average = "" if expectation == "all" else ", on average"
    speed = f"how fast {of[expectation]} (cross-entropy, in nats) changes when this weight alone moves{on_average}"
    if form == "l1":
        return Meaning("nats per unit of weight", f"{speed[0].upper()}{speed[1:]}.")
    fisher = ": the diagonal of the empirical Fisher information" if expectation == "image" else ""
    return Meaning("(nats per unit of weight)²", f"The square of {speed}{fisher}.")

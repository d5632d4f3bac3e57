"""State what the numbers of each score mean: their unit, and a sentence."""

from dataclasses import dataclass

from shpeft.config.schema import SelectionConfig


@dataclass(frozen=True)
class ScoreUnit:
    """What a score's numbers mean.

    Attributes:
        unit: the label of a color bar.
        description: a sentence for people.
    """

    unit: str
    description: str


def score_unit(config: SelectionConfig, which: str = "hybrid") -> ScoreUnit:
    """Return what the numbers of a run's score mean, or those of one half of it.

    Args:
        which: ``hybrid`` for the score itself, whatever it is called, or ``task-specific`` or ``task-agnostic``.
    """
    form = {"gradient": "l1", "fisher": "l2"}.get(config.score, config.norm)
    if which == "task-agnostic" or (which == "hybrid" and config.score == "magnitude"):
        return _MAGNITUDE[form]
    if which == "task-specific" or config.score in ("gradient", "fisher"):
        return _gradient(form, config.expectation)
    if config.score == "wanda":
        return ScoreUnit(
            "weight × input",
            "The size of the weight times the norm of the input that it multiplies, over all images: how much it "
            "contributes to its layer's output.",
        )
    if config.score == "random":
        return ScoreUnit("drawn from 0 to 1", "A random number, which says nothing about the weight.")
    if config.formula == "sum":
        unit, description = _SUMS[config.normalizer]
        return ScoreUnit(unit, description.format(1 - config.lam, config.lam))
    if config.formula == "quota":
        return ScoreUnit(
            _gradient(form, config.expectation).unit,
            "This hybrid has no scores of its own: each half selects its quota. The task-specific scores are shown.",
        )
    return _PRODUCT[form]


_MAGNITUDE = {
    "l1": ScoreUnit("|weight|", "The size of the pretrained weight, whatever the task."),
    "l2": ScoreUnit("weight²", "The square of the pretrained weight, whatever the task."),
}


_PRODUCT = {
    "l1": ScoreUnit(
        "nats",
        "How much the training loss (cross-entropy, in nats) would change if this weight were set to 0, to first "
        "order.",
    ),
    "l2": ScoreUnit(
        "nats²",
        "The square of how much the training loss (cross-entropy, in nats) would change if this weight were set to 0, "
        "to first order.",
    ),
}


_SUMS = {
    "mean": (
        "multiples of the mean",
        "{:g} × the task-specific plus {:g} × the task-agnostic score, each divided by its mean over all weights: an "
        "average weight has 1.",
    ),
    "max": (
        "fractions of the maximum",
        "{:g} × the task-specific plus {:g} × the task-agnostic score, each divided by its maximum: a weight that "
        "ranks first in both has 1.",
    ),
    "rank": (
        "rank, 1 is the highest",
        "{:g} × the task-specific plus {:g} × the task-agnostic rank, each from 0 to 1: a weight that ranks first in "
        "both has 1.",
    ),
}


def _gradient(form: str, expectation: str) -> ScoreUnit:
    loss = {"batch": "the loss of a batch", "image": "the loss of an image", "all": "the mean loss of all images"}
    on_average = "" if expectation == "all" else ", on average"
    speed = f"how fast {loss[expectation]} (cross-entropy, in nats) changes when this weight alone moves{on_average}"
    if form == "l1":
        return ScoreUnit("nats per unit of weight", f"{speed[0].upper()}{speed[1:]}.")
    fisher = ": the diagonal of the empirical Fisher information" if expectation == "image" else ""
    return ScoreUnit("(nats per unit of weight)²", f"The square of {speed}{fisher}.")

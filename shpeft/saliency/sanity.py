"""Sanity: does a map depend on what the model has learned, and does it mark what the score depends on?"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.progress import Progress, silent
from shpeft.saliency.explaining import Saliency, explain
from shpeft.saliency.measures import (
    NOISY,
    RANDOM_MAPS,
    SHARES,
    STAGES,
    Faithfulness,
    faithfulness,
    max_sensitivity,
    randomisation,
)
from shpeft.saliency.methods import METHODS
from shpeft.saliency.overlay import Map

ALIKE = 0.5
"""The rank correlation with a random model's map from which on a map counts as the same. The paper names no bound; this
one is a convention, half-way between unrelated maps and equal ones."""

EXPLANATIONS = len(STAGES) + NOISY
"""How many further explanations a check makes."""

FORWARD_PASSES = 1 + 2 * len(SHARES) * (1 + RANDOM_MAPS)
"""How many images a check runs through the model besides."""


@dataclass(frozen=True)
class Sanity:
    """What the checks of one map found.

    Attributes:
        correlations: for each stage of the randomisation the rank correlation with the map.
        found: the map's deletion and insertion.
        controls: those of the maps to beat.
        sensitivity: the map's largest relative change under a noise that nobody sees.
    """

    method: str
    target: int
    correlations: dict[str, float]
    found: Faithfulness
    controls: tuple[Faithfulness, ...]
    sensitivity: float
    seconds: float

    @property
    def likeness(self) -> float:
        """The rank correlation with the map of the model whose weights are all random."""
        return self.correlations[STAGES[-1]]

    @property
    def follows_the_weights(self) -> bool:
        """Random weights change the map."""
        return self.likeness < ALIKE

    @property
    def beaten(self) -> int:
        """How many of the maps to beat mark less of what the score depends on."""
        return sum(control.score < self.found.score for control in self.controls)

    @property
    def marks_what_counts(self) -> bool:
        """The map beats all of them."""
        return self.beaten == len(self.controls)

    @property
    def passed(self) -> int:
        """How many of the two checks the map passes."""
        return self.follows_the_weights + self.marks_what_counts

    def numbers(self) -> list[dict[str, str | float | None]]:
        """Every number as a row of a table: what was measured, of the map and, on average, of the maps to beat."""
        rows: list[dict[str, str | float | None]] = [
            {"measure": f"rank correlation, {stage} random", "this map": value, "moved copies": None}
            for stage, value in self.correlations.items()
        ]
        for name in ("deletion", "insertion", "score"):
            title = "deletion less insertion" if name == "score" else name
            others = float(np.mean([getattr(control, name) for control in self.controls]))
            rows.append({"measure": f"{title}, logits", "this map": getattr(self.found, name), "moved copies": others})
        return [*rows, {"measure": "sensitivity to noise", "this map": self.sensitivity, "moved copies": None}]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the same image gives the same."""
        return {
            "follows_the_weights": self.follows_the_weights,
            "marks_what_counts": self.marks_what_counts,
            "sentences": list(self.sentences()),
            "beaten": self.beaten,
            "controls": len(self.controls),
            "numbers": self.numbers(),
        }

    def sentences(self) -> tuple[str, str]:
        """What was found, for people: one sentence on the randomisation, one on deletion and insertion."""
        likeness = f"(rank correlation {self.likeness:.2f}; from {ALIKE:g} on it counts as the same)"
        others = f"{len(self.controls)} copies of itself that were moved elsewhere"
        return (
            f"The map passes the randomisation check: a model with random weights gives another map {likeness}."
            if self.follows_the_weights
            else f"The map fails the randomisation check: a model with random weights gives much the same map "
            f"{likeness}, so it shows the image rather than what the model has learned.",
            f"The map passes the deletion and insertion check: it marks what the score depends on better than all "
            f"{others}."
            if self.marks_what_counts
            else f"The map fails the deletion and insertion check: of {others} only {self.beaten} mark less of what "
            "the score depends on, so other places may matter as much.",
        )


def check_saliency(
    backbone: Backbone, image: Tensor, saliency: Saliency, *, seed: int = 0, progress: Progress = silent
) -> Sanity:
    """Check the map of one image by parameter randomisation, deletion and insertion, and for its sensitivity to noise.

    The same seed gives the same numbers. The backbone and the global random numbers are left as they were.

    Args:
        image: normalised (1, 3, S, S), the one that the map explains.
        saliency: what :func:`explain` gave for it.
        seed: decides the random weights, the maps to beat, the noise and the methods' own samples.

    Raises:
        DiagnosisError: a map that is the same everywhere, in which there is nothing to check.
    """
    if np.ptp(saliency.map) == 0:
        raise DiagnosisError(
            f"The map of {METHODS[saliency.method].title} is the same everywhere, so there is nothing to check. Choose "
            "another method or another class."
        )
    begun, cost = time.monotonic(), METHODS[saliency.method].cost
    total, image = EXPLANATIONS * cost + FORWARD_PASSES, image.to(backbone.device)

    def part(before: int, length: int) -> Progress:
        return lambda _, done, of: progress("checking the map", before + length * done // of, total)

    def explained(model: Backbone, images: Tensor, inner: Progress) -> Map:
        return explain(model, images, saliency.target, saliency.method, seed=seed, progress=inner).map

    explanations = iter([part(number * cost, cost) for number in range(EXPLANATIONS)])
    stages = [next(explanations) for _ in STAGES]
    correlations = randomisation(backbone, image, saliency.map, explained, seed=seed, progress=stages)
    sensitivity = max_sensitivity(
        image, saliency.map, lambda noisy: explained(backbone, noisy, next(explanations)), seed=seed
    )
    last = part(EXPLANATIONS * cost, FORWARD_PASSES)
    found, controls = faithfulness(backbone, image, saliency.target, saliency.map, seed=seed, progress=last)
    seconds = time.monotonic() - begun
    return Sanity(saliency.method, saliency.target, correlations, found, controls, sensitivity, seconds)

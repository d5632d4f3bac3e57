"""Sanity checks: does a map depend on the model's weights, and does it mark the pixels that the score depends on?"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency.measures import (
    NOISY,
    RANDOM_MAPS,
    SHARES,
    STAGES,
    Faithfulness,
    faithfulness,
    max_sensitivity,
    randomization,
)
from shpeft.explanation.saliency.methods import METHODS
from shpeft.explanation.saliency.overlay import Map
from shpeft.explanation.saliency.saliency_map import Saliency, explain
from shpeft.support.progress import Progress, silent

ALIKE = 0.5
"""Rank correlation with a random model's map at and above which the maps count as the same. The paper sets no bound;
this one is a convention, half-way between unrelated and equal maps."""

EXPLANATIONS = len(STAGES) + NOISY
"""Number of further explanations in a check."""

FORWARD_PASSES = 1 + 2 * len(SHARES) * (1 + RANDOM_MAPS)
"""Number of other forward passes in a check."""


@dataclass(frozen=True, repr=False)
class Sanity:
    """Results of the sanity checks of one map.

    Attributes:
        method: that of the map.
        target: index of the class that the map explains.
        correlations: for each stage of the randomization the rank correlation with the map.
        faithfulness: deletion and insertion of the map.
        controls: deletion and insertion of the moved copies of the map.
        sensitivity: the map's largest relative change under imperceptible noise.
        seconds: run time.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> _ = model.head.weight.data.normal_()
        >>> inputs = model.transform(data.test.image(0))
        >>> sanity = shpeft.check_saliency(model, inputs, shpeft.explain(model, inputs, 0, "saliency"))
        >>> 0 <= sanity.passed <= 2
        True
    """

    method: str
    target: int
    correlations: dict[str, float]
    faithfulness: Faithfulness
    controls: tuple[Faithfulness, ...]
    sensitivity: float
    seconds: float

    def __repr__(self) -> str:
        return (
            f"Sanity({self.method} of class {self.target}, passes {self.passed} of 2 checks: rank correlation "
            f"{self.likeness:.2f}, beats {self.beaten} of {len(self.controls)} moved copies)"
        )

    @property
    def likeness(self) -> float:
        """Rank correlation with the map of the fully randomized model."""
        return self.correlations[STAGES[-1]]

    @property
    def follows_the_weights(self) -> bool:
        """Whether random weights change the map."""
        return self.likeness < ALIKE

    @property
    def beaten(self) -> int:
        """Number of moved copies that are less faithful than the map."""
        return sum(control.score < self.faithfulness.score for control in self.controls)

    @property
    def marks_what_counts(self) -> bool:
        """Whether the map beats all of its moved copies."""
        return self.beaten == len(self.controls)

    @property
    def passed(self) -> int:
        """Number of checks passed, from 0 to 2."""
        return self.follows_the_weights + self.marks_what_counts

    @property
    def withheld(self) -> str:
        """Why the map must not be shown, in a sentence; empty if it may be.

        A map is withheld if it fails the randomization check, or if it beats no more than half of its moved copies. One
        that beats most of them but not all is shown with the verdict of its checks.
        """
        reasons = []
        if not self.follows_the_weights:
            reasons.append("a model with random weights gives nearly the same map")
        if 2 * self.beaten <= len(self.controls):
            copies = f"{self.beaten} of {len(self.controls)} moved copies of itself"
            reasons.append(f"it marks what the score depends on better than only {copies}")
        return f"No map is shown, because it fails its sanity check: {' and '.join(reasons)}." if reasons else ""

    def numbers(self) -> list[dict[str, str | float | None]]:
        """Return table rows: each measure, of the map and, on average, of its moved copies."""
        rows: list[dict[str, str | float | None]] = [
            {"measure": f"rank correlation, {stage} random", "this map": value, "moved copies": None}
            for stage, value in self.correlations.items()
        ]
        for name in ("deletion", "insertion", "score"):
            title = "deletion minus insertion" if name == "score" else name
            others = float(np.mean([getattr(control, name) for control in self.controls]))
            rows.append(
                {"measure": f"{title}, logits", "this map": getattr(self.faithfulness, name), "moved copies": others}
            )
        return [*rows, {"measure": "sensitivity to noise", "this map": self.sensitivity, "moved copies": None}]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the same image gives the same values."""
        return {
            "method": self.method,
            "follows_the_weights": self.follows_the_weights,
            "marks_what_counts": self.marks_what_counts,
            "withheld": self.withheld,
            "sentences": list(self.sentences()),
            "beaten": self.beaten,
            "controls": len(self.controls),
            "numbers": self.numbers(),
        }

    def sentences(self) -> tuple[str, str]:
        """Return the verdicts: one sentence on the randomization, one on deletion and insertion."""
        likeness = f"(rank correlation {self.likeness:.2f}; {ALIKE:g} or more counts as the same map)"
        copies = f"{len(self.controls)} moved copies of itself"
        return (
            f"The map passes the randomization check: a model with random weights gives a different map {likeness}."
            if self.follows_the_weights
            else f"The map fails the randomization check: a model with random weights gives nearly the same map "
            f"{likeness}, so the map shows the image rather than what the model has learned.",
            f"The map passes the deletion and insertion check: it marks what the score depends on better than all "
            f"{copies}."
            if self.marks_what_counts
            else f"The map fails the deletion and insertion check: it marks what the score depends on better than only "
            f"{self.beaten} of {copies}, so other regions may matter as much.",
        )


def check_saliency(
    backbone: Backbone, inputs: Tensor, saliency: Saliency, *, seed: int = 0, progress: Progress = silent
) -> Sanity:
    """Check a map by parameter randomization, by deletion and insertion, and for its sensitivity to noise.

    The same seed gives the same numbers. The backbone and the global random state are unchanged.

    Args:
        backbone: the model that the map explains.
        inputs: normalized image (1, 3, H, W), the one that the map explains.
        saliency: the map, as :func:`explain` returns it; it carries its own method and target.
        seed: of the random weights, the moved copies, the noise and the methods' own samples.

    Raises:
        DiagnosisError: a constant map.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> _ = model.head.weight.data.normal_()
        >>> inputs = model.transform(data.test.image(0))
        >>> saliency = shpeft.explain(model, inputs, data.classes[0], "saliency")
        >>> shpeft.check_saliency(model, inputs, saliency)  # doctest: +ELLIPSIS
        Sanity(saliency of class 0, passes ... of 2 checks: ...)
    """
    if np.ptp(saliency.map) == 0:
        raise DiagnosisError(
            f"The map of {METHODS[saliency.method].title} is the same everywhere and cannot be checked. Choose another "
            "method or another class."
        )
    began, cost = time.monotonic(), METHODS[saliency.method].cost
    total, inputs = EXPLANATIONS * cost + FORWARD_PASSES, inputs.to(backbone.device)

    def part(before: int, length: int) -> Progress:
        return lambda _, done, of: progress("checking the map", before + length * done // of, total)

    def explainer(model: Backbone, images: Tensor, inner: Progress) -> Map:
        return explain(model, images, saliency.target, saliency.method, seed=seed, progress=inner).map

    explanations = iter([part(number * cost, cost) for number in range(EXPLANATIONS)])
    stages = [next(explanations) for _ in STAGES]
    correlations = randomization(backbone, inputs, saliency.map, explainer, seed=seed, progress=stages)
    sensitivity = max_sensitivity(
        inputs, saliency.map, lambda noisy: explainer(backbone, noisy, next(explanations)), seed=seed
    )
    last = part(EXPLANATIONS * cost, FORWARD_PASSES)
    result, controls = faithfulness(backbone, inputs, saliency.target, saliency.map, seed=seed, progress=last)
    seconds = time.monotonic() - began
    return Sanity(saliency.method, saliency.target, correlations, result, controls, sensitivity, seconds)

"""Plan the work of a run in image passes, and report its progress as one number."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shpeft.backbones import WeightInfo
from shpeft.config.schema import AUTO, RunConfig
from shpeft.pipeline.budget_choice import SHARES
from shpeft.support.progress import Progress

SCORING_COST, TRAINING_COST = 3.0, 2.3
"""Cost of an image with all gradients, and with those of the selected weights, in forward passes."""

FEATURE_IMAGES = 512
"""Most training images for the OOD detector: enough for its 64 directions."""

STORED_IMAGES = 10_000
"""Most training images whose features are stored: 8 MB for features of 384 numbers."""


@dataclass(frozen=True)
class WorkPlan:
    """The parts of a run in image passes; 1 is a forward pass of one image through the whole backbone."""

    probe: float
    probe_test: float
    scoring: float
    first_validation: float
    epoch: float
    epochs: int
    trainings: int
    test: float
    calibration: tuple[float, ...]

    @classmethod
    def of(cls, config: RunConfig, cases: Sequence[int], share: float, checkpointing: bool = False) -> "WorkPlan":
        """Plan the work of a configuration.

        Args:
            config: the configuration of the run.
            cases: numbers of training, validation and test images.
            share: the share of the blocks that run once the prefix is cached; 1 without a cache.
            checkpointing: whether backward passes begin with another forward pass.
        """
        train, val, test = cases
        scored = 0 if config.selection.score in ("random", "magnitude") else min(config.selection.images, train)
        training = config.training
        anew = 1 - share if training.augment not in ("none", "flip") or training.mixup else 0.0  # no prefix is cached
        stored = (share * min(train, STORED_IMAGES),) if config.store_features else ()
        return cls(
            probe=train + val,
            probe_test=test,
            scoring=(SCORING_COST + checkpointing) * share * scored,
            first_validation=share * val,
            epoch=share * ((TRAINING_COST + checkpointing) * train + val) + anew * train,
            epochs=training.epochs,
            trainings=len(SHARES) if config.selection.budget == AUTO else 1,
            test=share * test,
            calibration=(share * val, val, min(train, FEATURE_IMAGES), test, *stored),
        )

    @property
    def training(self) -> float:
        """Return the image passes of one training, with the validation of the start."""
        return self.first_validation + self.epochs * self.epoch

    @property
    def total(self) -> float:
        """Return the image passes of the whole run."""
        return (
            self.probe
            + self.probe_test
            + self.scoring
            + self.trainings * self.training
            + self.test
            + sum(self.calibration)
        )


def trained_share(infos: Sequence[WeightInfo], eligible: Sequence[WeightInfo]) -> float:
    """Return the share of the blocks at or above the first eligible weight; 1 if nothing below it can be cached."""
    depths = sorted({info.depth for info in infos if info.is_matrix})
    first = min(info.depth for info in eligible)
    if first not in depths or first == depths[0]:
        return 1.0
    return sum(depth >= first for depth in depths) / len(depths)


class RunProgress:
    """Report the progress of a whole run: ``done`` and ``total`` count image passes, ``stage`` is shown to the user."""

    SILENCE = 0.5
    """Seconds after which ``repeat`` reports again, so that the callback can cancel the work."""

    def __init__(self, report: Progress) -> None:
        """Report to a callback; ``total`` is 0 until ``plan`` is called."""
        self._report = report
        self._last = ("", 0, 0)
        self._reported = time.monotonic()
        self._total = 0
        self._before = 0.0
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}

    def plan(self, plan: WorkPlan) -> None:
        """Set the total work."""
        self._total = round(plan.total)

    def part(self, stage: str | Callable[[], str], *units: float) -> Progress:
        """Return the progress callback of one part of the run.

        Args:
            stage: its name, as shown to the user.
            units: its image passes; one number for each successive stage that it reports.
        """
        before, seen = self._before, [""]
        self._before += sum(units)

        def progress(inner: str, done: int, total: int) -> None:
            if inner not in seen:
                seen.append(inner)
            at = max(0, min(len(seen) - 2, len(units) - 1))
            share = done / total if total else 0.0
            passed = round(before + sum(units[:at]) + share * units[at]) if units else round(before)
            self._send(stage if isinstance(stage, str) else stage(), min(passed, self._total), self._total)

        progress("", 0, 1)
        seen[:] = [""]
        return progress

    def repeat(self) -> None:
        """Repeat the last report if it is a while ago; called inside long steps."""
        if time.monotonic() - self._reported > self.SILENCE:
            self._send(*self._last)

    def _send(self, stage: str, done: int, total: int) -> None:
        self._last, self._reported = (stage, done, total), time.monotonic()
        self._report(stage, done, total)

    def lap(self, name: str) -> None:
        """Record the seconds since the last lap under ``name``."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._begun, 2)
        self._begun = now

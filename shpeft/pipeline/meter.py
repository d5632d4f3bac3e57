"""The work that a run consists of, one progress for all of it, and the seconds that its parts took."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shpeft.backbones import WeightInfo
from shpeft.config import RunConfig
from shpeft.progress import Progress

SCORING_COST, TRAINING_COST = 3.0, 2.3
"""What an image costs with all gradients, and with those of the selected weights, relative to a forward pass."""

FEATURE_IMAGES = 2000
"""Training images that the novelty detector is fitted on, at most: enough for a covariance."""


@dataclass(frozen=True)
class Work:
    """A run's parts in image passes: 1 is one image through the whole backbone, forward."""

    probe: float
    probe_test: float
    scoring: float
    epoch: float
    epochs: int
    test: float
    calibration: tuple[float, float, float]

    @classmethod
    def plan(cls, config: RunConfig, cases: Sequence[int], share: float) -> "Work":
        """Foresee the work.

        Args:
            cases: images to train, validate and test on.
            share: of the backbone's depth that still runs once each image's prefix is cached (1: nothing is cached).
        """
        train, val, test = cases
        scored = 0 if config.selection.score in ("random", "magnitude") else min(config.selection.images, train)
        return cls(
            probe=train + val,
            probe_test=test,
            scoring=SCORING_COST * share * scored,
            epoch=share * ((TRAINING_COST + config.training.checkpointing) * train + val),
            epochs=config.training.epochs,
            test=share * test,
            calibration=(share * val, share * val, share * min(train, FEATURE_IMAGES)),
        )

    @property
    def total(self) -> float:
        """All of it."""
        return (
            self.probe + self.probe_test + self.scoring + self.epochs * self.epoch + self.test + sum(self.calibration)
        )


def trained_share(infos: Sequence[WeightInfo], eligible: Sequence[WeightInfo]) -> float:
    """The share of the blocks from the first that holds an eligible weight; 1 when nothing below it can be cached."""
    depths = sorted({info.depth for info in infos if info.is_matrix})
    first = min(info.depth for info in eligible)
    if first not in depths or first == depths[0]:
        return 1.0
    return sum(depth >= first for depth in depths) / len(depths)


class Meter:
    """Progress over a whole run: ``done`` and ``total`` count image passes, ``stage`` is for people."""

    SILENCE = 0.5
    """Seconds after which what was reported last is worth saying again, so that whoever hears it can stop the work."""

    def __init__(self, report: Progress) -> None:
        """Nothing is planned yet, so ``total`` is 0."""
        self._report = report
        self._last = ("", 0, 0)
        self._told = time.monotonic()
        self._total = 0
        self._before = 0.0
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}

    def plan(self, work: Work) -> None:
        """What the parts will add up to."""
        self._total = round(work.total)

    def part(self, stage: str | Callable[[], str], *units: float) -> Progress:
        """The progress of one part.

        Args:
            stage: what it is called.
            units: its image passes; with several, one for each of the successive stages that it reports.
        """
        start, seen = self._before, [""]
        self._before += sum(units)

        def progress(inner: str, done: int, total: int) -> None:
            if inner not in seen:
                seen.append(inner)
            at = max(0, min(len(seen) - 2, len(units) - 1))
            share = done / total if total else 0.0
            passed = round(start + sum(units[:at]) + share * units[at]) if units else round(start)
            self._tell(stage if isinstance(stage, str) else stage(), min(passed, self._total), self._total)

        progress("", 0, 1)
        seen[:] = [""]
        return progress

    def again(self) -> None:
        """Report once more what was reported last, where that is a while ago: in the midst of a long step."""
        if time.monotonic() - self._told > self.SILENCE:
            self._tell(*self._last)

    def _tell(self, stage: str, done: int, total: int) -> None:
        self._last, self._told = (stage, done, total), time.monotonic()
        self._report(stage, done, total)

    def lap(self, name: str) -> None:
        """Write down the seconds since the last lap."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._begun, 2)
        self._begun = now

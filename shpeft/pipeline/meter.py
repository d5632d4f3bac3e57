"""One progress for a whole run, and the seconds that its parts took."""

import time
from collections.abc import Callable

from shpeft.config import RunConfig
from shpeft.datasets import Dataset
from shpeft.progress import Progress

SCORING_COST, TRAINING_COST = 3.0, 2.3
"""What an image costs with all gradients, and with those of the selected weights, relative to a forward pass."""


class Meter:
    """Progress over a whole run: ``done`` and ``total`` count image passes, ``stage`` is for people."""

    def __init__(self, report: Progress) -> None:
        """Nothing is planned yet, so ``total`` is 0."""
        self._report = report
        self._total = 0
        self._before = 0.0
        self._begun = time.monotonic()
        self.seconds: dict[str, float] = {}

    def plan(self, config: RunConfig, data: Dataset) -> None:
        """Foresee the work: what each image costs is known before it begins."""
        train, val, test = (len(split) for split in data.splits)
        scored = 0 if config.selection.score in ("random", "magnitude") else min(config.selection.images, train)
        epochs = config.training.epochs * (TRAINING_COST * train + val)
        self._total = round(train + val + test + SCORING_COST * scored + epochs + test)

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
            self._report(stage if isinstance(stage, str) else stage(), min(passed, self._total), self._total)

        progress("", 0, 1)
        seen[:] = [""]
        return progress

    def lap(self, name: str) -> None:
        """Write down the seconds since the last lap."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._begun, 2)
        self._begun = now

"""What a table holds, by arm and budget, as far as it is filled; and what can be concluded from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from shpeft.compare import statistics
from shpeft.compare.plan import Budget, Cell, Plan
from shpeft.compare.table import Record, Table
from shpeft.errors import RunError
from shpeft.evaluation import Predictions

LARGER_IS_BETTER = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "mcc")


@dataclass(frozen=True)
class Entry:
    """An arm with a budget: a row of the report."""

    arm: str
    budget: Budget | None

    @property
    def title(self) -> str:
        """``product, 0.01 %`` or ``product, 2,000 weights``."""
        if self.budget is None:
            return self.arm
        return f"{self.arm}, " + (f"{100 * self.budget:g} %" if self.budget < 1 else f"{self.budget:,} weights")


@dataclass(frozen=True)
class Duel:
    """The method against another arm, over the datasets and seeds that both have.

    Attributes:
        by_dataset: the paired difference, method − other, on each dataset.
        mean: that of the mean over datasets.
        p: of the signed-rank test over datasets; ``holm`` the same, adjusted for all duels.
        false_claim: the probability, for each dataset, that the arm ahead in accuracy is not the better one.
    """

    other: Entry
    by_dataset: dict[str, statistics.Difference]
    mean: statistics.Difference
    tost: statistics.Equivalence
    p: float
    holm: float
    false_claim: dict[str, float]


class Results:
    """A plan's part of a table."""

    def __init__(self, plan: Plan, table: Table):
        self.plan, self.table = plan, table
        found = table.cells()
        self._cells = {cell: found[cell.key] | {"arm": cell.arm} for cell in plan.cells() if cell.key in found}
        if not self._cells:
            raise RunError(f"The table in {table.folder} holds no cell of this plan yet: run `shpeft compare` first.")
        self._predictions = lru_cache(maxsize=None)(table.predictions)

    @property
    def records(self) -> list[Record]:
        """The finished cells, in the plan's order."""
        return list(self._cells.values())

    @property
    def missing(self) -> int:
        """How many cells are not finished."""
        return len(self.plan.cells()) - len(self._cells)

    @cached_property
    def entries(self) -> list[Entry]:
        """Arms with budgets of which at least one cell is there, in the plan's order."""
        return list(dict.fromkeys(Entry(c.arm, c.budget) for c, r in self._cells.items() if r["status"] == "finished"))

    @property
    def method(self) -> Entry:
        """The row that the report is about."""
        claim = self.plan.report
        arm = claim.method or next(
            (n for n, a in self.plan.arms.items() if a.kind == "sparse"), next(iter(self.plan.arms))
        )
        sized = [entry for entry in self.entries if entry.arm == arm]
        found = [entry for entry in sized if entry.budget == claim.budget] or sized
        if not found:
            raise RunError(f"No cell of the arm {arm}, which the report is about, is finished yet.")
        return found[0]

    def rows(self, entry: Entry, dataset: str | None = None) -> list[Record]:
        """The finished records of an entry."""
        return [r for _, r in self._of(entry) if dataset in (None, r["dataset"])]

    def by_seed(self, entry: Entry, dataset: str, metric: str) -> dict[int, float]:
        """A metric for each seed, the mean over random masks."""
        found: dict[int, list[float]] = {}
        for record in self.rows(entry, dataset):
            if record[metric] is not None:
                found.setdefault(record["seed"], []).append(record[metric])
        return {seed: float(np.mean(values)) for seed, values in found.items()}

    def complete(self, entry: Entry) -> bool:
        """Whether every dataset and seed is there."""
        return len(self.rows(entry)) == sum((c.arm, c.budget) == (entry.arm, entry.budget) for c in self.plan.cells())

    def mean(self, entry: Entry, metric: str) -> float | None:
        """The mean over datasets of the mean over seeds; None unless every dataset is there."""
        means = [list(self.by_seed(entry, dataset, metric).values()) for dataset in self.plan.datasets]
        return float(np.mean([np.mean(values) for values in means])) if all(means) else None

    def floor(self, metric: str) -> Entry | None:
        """The better of linear probe and head alone."""
        floors = [e for e in self.entries if self.plan.arms[e.arm].kind in ("probe", "head")]
        known = [(value, e) for e in floors if (value := self.mean(e, metric)) is not None]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def ranking(self, metric: str) -> tuple[list[Entry], statistics.Ranks] | None:
        """The complete entries with their mean ranks over datasets, the best first."""
        entries = [entry for entry in self.entries if self.complete(entry)]
        if len(entries) < 2:
            return None
        scores = [
            [np.mean(list(self.by_seed(e, dataset, metric).values())) for e in entries]
            for dataset in self.plan.datasets
        ]
        found = statistics.ranks(np.array(scores))
        order = sorted(range(len(entries)), key=lambda i: found.mean[i])
        return [entries[i] for i in order], statistics.Ranks(tuple(found.mean[i] for i in order), found.p)

    def duels(self, resamples: int = 2000) -> list[Duel]:
        """The method against every other entry that shares a dataset and seed with it."""
        method, margin = self.method, self.plan.report.margin
        found: list[tuple[Entry, dict[str, statistics.Difference], dict[str, float]]] = []
        for other in self.entries:
            differences: dict[str, statistics.Difference] = {}
            chances: dict[str, float] = {}
            for dataset in self.plan.datasets:
                if other == method or not (pair := self._paired(method, other, dataset)):
                    continue
                differences[dataset] = statistics.bootstrap_difference(
                    *pair, self.plan.report.metric, resamples=resamples, seed=len(differences)
                )
                ahead = sorted(statistics.discordant(*pair), reverse=True)
                chances[dataset] = statistics.false_claim(*ahead)
            if differences:
                found.append((other, differences, chances))
        p_values = [statistics.wilcoxon([d.value for d in differences.values()]) for _, differences, _ in found]
        duels = []
        for (other, differences, chances), p, adjusted in zip(found, p_values, statistics.holm(p_values), strict=True):
            mean = statistics.mean_difference(list(differences.values()))
            duels.append(Duel(other, differences, mean, statistics.tost(mean, margin), p, adjusted, chances))
        return duels

    def _of(self, entry: Entry) -> list[tuple[Cell, Record]]:
        return [
            (c, r)
            for c, r in self._cells.items()
            if (c.arm, c.budget) == (entry.arm, entry.budget) and r["status"] == "finished"
        ]

    def _paired(
        self, a: Entry, b: Entry, dataset: str
    ) -> tuple[Sequence[Sequence[Predictions]], Sequence[Sequence[Predictions]]] | None:
        """Predictions of both for each seed that both have; None without one."""
        sides = []
        for entry in (a, b):
            by_seed: dict[int, list[Predictions]] = {}
            for cell, record in self._of(entry):
                if cell.dataset == dataset:
                    by_seed.setdefault(cell.seed, []).append(self._predictions(record["key"]))
            sides.append(by_seed)
        seeds = [seed for seed in sides[0] if seed in sides[1]]
        return ([sides[0][s] for s in seeds], [sides[1][s] for s in seeds]) if seeds else None

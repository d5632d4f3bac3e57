"""What a table holds, by arm and budget, as far as it is filled."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from shpeft.compare import statistics
from shpeft.compare.plan import Budget, Cell, Plan
from shpeft.compare.table import CALIBRATED, PLAN, Record, Table
from shpeft.errors import RunError

SMALLER_IS_BETTER = ("ece", CALIBRATED, "brier")


@dataclass(frozen=True)
class Entry:
    """An arm with a budget: a row of the report."""

    arm: str
    budget: Budget | None

    @property
    def title(self) -> str:
        """``product, 0.01 %`` or ``product, 2,000 weights``."""
        return self.arm if self.budget is None else f"{self.arm}, {size(self.budget)}"


def size(budget: Budget) -> str:
    """``0.01 %`` or ``2,000 weights``."""
    return f"{100 * budget:g} %" if budget < 1 else f"{budget:,} weights"


@dataclass(frozen=True)
class Ranking:
    """Arms by their mean rank, the best first, over the datasets that all of them have; ``p`` is Friedman's."""

    entries: tuple[Entry, ...]
    datasets: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float | None
    critical: float

    @property
    def rank(self) -> dict[Entry, float]:
        """The mean rank of each."""
        return dict(zip(self.entries, self.ranks, strict=True))


class Results:
    """A plan's part of a table."""

    def __init__(self, plan: Plan, table: Table):
        self.plan, self.table = plan, table
        found = table.cells()
        self._cells = {cell: found[cell.key] | {"arm": cell.arm} for cell in plan.cells() if cell.key in found}
        if not self._cells:
            raise RunError("The table holds no cell of this plan yet: run `shpeft compare` first.")
        self.predictions = lru_cache(maxsize=None)(table.predictions)

    @classmethod
    def of(cls, folder: str | Path) -> "Results":
        """The results in a table's folder, by the plan that it was filled with; nothing is written.

        Raises:
            RunError: the folder is no table, or has no finished cell yet.
        """
        table = Table.existing(folder)
        return cls(Plan.from_yaml(table.folder / PLAN), table)

    @property
    def records(self) -> list[Record]:
        """The cells that are done, failed ones among them, in the plan's order."""
        return list(self._cells.values())

    @cached_property
    def missing(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell in self.plan.cells() if cell not in self._cells]

    @cached_property
    def entries(self) -> list[Entry]:
        """Arms with budgets of which at least one cell is there, in the plan's order."""
        return list(dict.fromkeys(Entry(c.arm, c.budget) for c, r in self._cells.items() if r["status"] == "finished"))

    @cached_property
    def planned(self) -> list[Entry]:
        """Every arm with every budget, begun or not."""
        return list(dict.fromkeys(Entry(c.arm, c.budget) for c in self.plan.cells()))

    @property
    def method(self) -> Entry:
        """The row that the report is about, begun or not."""
        claim = self.plan.report
        arm = claim.method or next(
            (n for n, a in self.plan.arms.items() if a.kind == "sparse"), next(iter(self.plan.arms))
        )
        sized = [entry for entry in self.planned if entry.arm == arm]
        return next((entry for entry in sized if entry.budget == claim.budget), sized[0])

    def of_kind(self, *kinds: str) -> list[Entry]:
        """The entries of these kinds of arm."""
        return [entry for entry in self.entries if self.plan.arms[entry.arm].kind in kinds]

    def cells(self, entry: Entry, dataset: str | None = None) -> list[tuple[Cell, Record]]:
        """The finished cells of an entry."""
        return [
            (c, r)
            for c, r in self._cells.items()
            if (c.arm, c.budget) == (entry.arm, entry.budget)
            and r["status"] == "finished"
            and dataset in (None, c.dataset)
        ]

    def rows(self, entry: Entry, dataset: str | None = None) -> list[Record]:
        """The finished records of an entry."""
        return [record for _, record in self.cells(entry, dataset)]

    def by_seed(self, entry: Entry, dataset: str, metric: str) -> dict[int, float]:
        """A metric for each seed, the mean over random masks."""
        found: dict[int, list[float]] = {}
        for record in self.rows(entry, dataset):
            if record.get(metric) is not None:  # what is recorded today is not in every older cell
                found.setdefault(record["seed"], []).append(record[metric])
        return {seed: float(np.mean(values)) for seed, values in found.items()}

    def grid(self, entry: Entry) -> tuple[float, ...]:
        """The learning rates that an entry tries."""
        return self.plan.grid(self.plan.arms[entry.arm], entry.budget)

    def rates(self, entry: Entry, dataset: str) -> dict[float, bool]:
        """The learning rates that were chosen, and whether one stands at an edge of what was tried."""
        rows = [record for record in self.rows(entry, dataset) if "lr" in record]
        if not rows:
            return {}
        grid = self.grid(entry)
        chosen = sorted({record["lr"] for record in rows})
        return {lr: len(grid) > 1 and lr in (min(grid), max(grid)) for lr in chosen}

    def edges(self, entry: Entry) -> dict[str, str]:
        """By dataset at which edge of the grid a chosen learning rate stands, ``low`` or ``high``, where one does."""
        found = {}
        for dataset in self.plan.datasets:
            at = [rate for rate, edge in self.rates(entry, dataset).items() if edge]
            if at:
                lowest = min(self.grid(entry))
                found[dataset] = " and ".join("low" if rate == lowest else "high" for rate in at)
        return found

    @property
    def tuned(self) -> list[Entry]:
        """The entries that have a learning rate."""
        return [e for e in self.entries if any("lr" in record for record in self.rows(e))]

    def pending(self, entry: Entry) -> int:
        """How many cells of an entry are not done; one that failed is."""
        return sum((c.arm, c.budget) == (entry.arm, entry.budget) for c in self.missing)

    def mean(self, entry: Entry, metric: str, datasets: tuple[str, ...] = ()) -> float | None:
        """The mean over datasets of the mean over seeds; None unless every dataset is there.

        Args:
            datasets: those that count; by default all of the plan.
        """
        means = [list(self.by_seed(entry, dataset, metric).values()) for dataset in datasets or self.plan.datasets]
        return float(np.mean([np.mean(values) for values in means])) if all(means) else None

    def typical(self, entry: Entry, name: str) -> float:
        """A number of an entry's records, such as ``trained``, the mean over all of them."""
        return float(np.mean([record[name] for record in self.rows(entry)]))

    def floor(self, metric: str) -> Entry | None:
        """The better of linear probe and head alone, over the datasets that all arms in the ranking have."""
        floors = self.of_kind("probe", "head")
        known = [(value, e) for e in floors if (value := self.mean(e, metric, self.common[1])) is not None]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    @cached_property
    def common(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Entries, and the datasets that all of them have: the largest block of the table that is filled."""
        has = {e: {d for d in self.plan.datasets if self.rows(e, d)} for e in self.entries}
        blocks = []
        for least in {len(found) for found in has.values()}:
            entries = tuple(e for e in self.entries if len(has[e]) >= least)
            shared = set.intersection(*(has[e] for e in entries))
            blocks.append((entries, tuple(d for d in self.plan.datasets if d in shared)))
        return max(blocks, key=lambda block: len(block[0]) * len(block[1]))

    def ranking(self, metric: str) -> Ranking | None:
        """Mean ranks over datasets; None for fewer than two arms."""
        entries, datasets = self.common
        if len(entries) < 2 or not datasets:
            return None
        sign = -1 if metric in SMALLER_IS_BETTER else 1
        scores = [[sign * (self.mean(e, metric, (d,)) or 0.0) for e in entries] for d in datasets]
        found = statistics.ranks(np.array(scores))
        order = sorted(range(len(entries)), key=lambda i: found.mean[i])
        return Ranking(
            tuple(entries[i] for i in order),
            datasets,
            tuple(found.mean[i] for i in order),
            found.p,
            statistics.critical_difference(len(entries), len(datasets)),
        )

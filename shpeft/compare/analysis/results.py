"""Results of a table grouped by arm and budget; the table may be incomplete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from shpeft.compare.analysis import significance
from shpeft.compare.analysis.cross_fitting import cross_fitted
from shpeft.compare.arm import Budget
from shpeft.compare.cells import Cell, list_cells
from shpeft.compare.measures import (
    AT_TEMPERATURE,
    BRIER,
    IN_UNIT,
    LOG_LOSS,
    MEASURES,
    POINTS,
    SMALLER_IS_BETTER,
    Measures,
    Scale,
    inside,
    measures_of,
    scale_of,
)
from shpeft.compare.plan import Plan
from shpeft.compare.report_schema import Question
from shpeft.compare.table import PLAN, Record, Table
from shpeft.errors import RunError
from shpeft.evaluation.by_task import at_temperature, replicates_of
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import SINGLE_LABEL, TASKS, Regression, Task, read_task


@dataclass(frozen=True)
class Entry:
    """An arm with a budget: a row of the report."""

    arm: str
    budget: Budget | None

    @property
    def title(self) -> str:
        """The entry in words: ``product, 0.01 %`` or ``product, 2,000 weights``."""
        return self.arm if self.budget is None else f"{self.arm}, {size(self.budget)}"


def size(budget: Budget) -> str:
    """Format a budget: ``0.01 %`` or ``2,000 weights``."""
    return f"{100 * budget:g} %" if budget < 1 else f"{budget:,} weights"


@dataclass(frozen=True)
class Ranking:
    """Arms by their mean rank over the datasets that all of them have, best first.

    Attributes:
        entries: the ranked arms.
        datasets: the datasets that count.
        ranks: mean ranks in the order of ``entries``; 1 is the best.
        p: of Friedman's test; None for fewer than three arms.
        critical: Nemenyi's critical difference of two mean ranks.
    """

    entries: tuple[Entry, ...]
    datasets: tuple[str, ...]
    ranks: tuple[float, ...]
    p: float | None
    critical: float

    @property
    def rank(self) -> dict[Entry, float]:
        """The mean rank of each entry."""
        return dict(zip(self.entries, self.ranks, strict=True))


class Results:
    """The cells of a plan in a table, of datasets with one task.

    Args:
        plan: what is compared.
        table: the table.
        datasets: those that count; by default all of the plan.
        several_images: whether the plan is one of those for several numbers of training images.

    Attributes:
        plan: the plan, with these datasets alone.
        task: of the datasets.
        measures: what the task is measured by.
        metric: what arms are compared by: the plan's where the task has it, or the task's main one.
        images: the training images of a class where results for several numbers of them stand side by side.

    Raises:
        RunError: no cell of the plan is finished, the datasets have unlike tasks, or a question is about a metric that
            the task does not have.
    """

    def __init__(
        self, plan: Plan, table: Table, datasets: Sequence[str] | None = None, *, several_images: bool = False
    ):
        if isinstance(plan.images_per_class.train, tuple):
            raise RunError("The plan has several numbers of training images. Read each by itself: results_by_task.")
        self.images: int | None = plan.images_per_class.train if several_images else None
        finished = table.cells()
        groups = group_datasets(plan, finished)
        if datasets is None and len(groups) > 1:
            listed = "; ".join(f"{heading}: {', '.join(names)}" for heading, names in groups.items())
            raise RunError(
                f"The datasets have unlike tasks ({listed}), whose measures have no common mean. Read them by task: "
                "results_by_task."
            )
        named = tuple(plan.datasets) if datasets is None else tuple(datasets)
        self.plan, self.table = plan.model_copy(update={"datasets": {n: plan.datasets[n] for n in named}}), table
        cells = (cell for cell in list_cells(plan) if cell.dataset in named)
        self._cells = {c: finished[c.key] | {"arm": c.arm} for c in cells if c.key in finished}
        if not self._cells:
            raise RunError("The table holds no finished cell of this plan yet. Run `shpeft compare` first.")
        self.task = read_task(next(iter(self._cells.values())).get("task"))
        self.measures: Measures = measures_of(self.task)
        asked = plan.report.metric
        self.metric: str = asked if asked and asked in self.measures.comparable else self.measures.main
        measured = [m.comparable for m in MEASURES.values() if any(h.startswith(m.heading) for h in groups)]
        for question in plan.report.questions:
            self._check_question(question, measured)
        if pairs := [name for name in named if name in plan.report.pairs and self.measures.by_class != "recall"]:
            raise RunError(
                f"The plan's report.pairs name two classes of {pairs[0]}, whose task is {self.task.name} and has no "
                "classes that exclude each other. Leave it out of report.pairs."
            )
        self.predictions = lru_cache(maxsize=None)(table.predictions)
        self._calibrated: dict[str, Predictions] = {}

    def _check_question(self, question: Question, measured: Sequence[Sequence[str]]) -> None:
        """Refuse a question that would be answered in another measure than it was asked in.

        Raises:
            RunError: it names a metric that no task of the plan has, or a size without a metric.
        """
        if question.kind not in ("better", "not_worse"):
            return
        if question.metric is not None and not any(question.metric in names for names in measured):
            raise RunError(
                f"A question of the plan is about {question.metric}, which its datasets do not have. The metrics of "
                f"{self.heading.lower()} are {', '.join(self.measures.comparable)}."
            )
        metric = question.metric or self.metric
        if metric not in IN_UNIT or metric not in self.measures.comparable:
            return
        if question.metric is None and question.by is not None and self.plan.report.metric != metric:
            raise RunError(
                f"A question of the plan says by {question.by:g}, without a metric; the task {self.task.name} is "
                f"measured by {metric}, in {self.scale(metric).unit}. Name the question's metric."
            )
        if question.kind == "not_worse" and question.by is None and self.margin(metric) is None:
            raise RunError(
                f"A question of the plan asks whether an arm is not worse in {metric}, and there is no margin in "
                f"{self.scale(metric).unit}. Give the question's by, or report.margin_in_unit."
            )

    @property
    def questions(self) -> tuple[Question, ...]:
        """The plan's questions, without those about metrics of other tasks."""
        every = self.plan.report.questions
        return tuple(q for q in every if q.metric is None or q.metric in self.measures.comparable)

    @property
    def task_heading(self) -> str:
        """The task in a report, with the unit of a number."""
        return _heading(self.task)

    @property
    def heading(self) -> str:
        """The task in a report, with the unit of a number, and the number of training images of several ones."""
        return self.task_heading + ("" if self.images is None else f", {self.images} training images a class")

    def scale(self, metric: str) -> Scale:
        """Return how values of a metric are written."""
        return scale_of(self.task, metric)

    def margin(self, metric: str) -> float | None:
        """Return the plan's margin of equivalence in a metric; None: none is given in its unit."""
        report = self.plan.report
        return report.margin_in_unit if metric in IN_UNIT else report.margin

    @classmethod
    def of(cls, folder: str | Path) -> "Results":
        """Read the results in a table's folder, with the plan that is stored there; nothing is written.

        Raises:
            RunError: the folder is not a table, has no finished cell yet, or its datasets have unlike tasks.
        """
        table = Table.existing(folder)
        return cls(Plan.from_yaml(table.folder / PLAN), table)

    @property
    def records(self) -> list[Record]:
        """The records of finished and failed cells, in the plan's order."""
        return list(self._cells.values())

    @cached_property
    def uncalibrated(self) -> list[Record]:
        """The finished cells without a temperature from validation images, as cells of earlier versions.

        If there is one, log loss and Brier score of all cells are at cross-fitted temperatures: arms compare alike.
        Numbers have no temperature.
        """
        if not self.measures.calibrated:
            return []
        return [r for r in self.records if r["status"] == "finished" and "temperature" not in r]

    def calibrated(self, record: Record) -> Predictions:
        """Return a cell's test predictions at the temperature of its validation images, or cross-fitted ones."""
        key = record["key"]
        if key not in self._calibrated:
            predictions = self.predictions(key)
            self._calibrated[key] = (
                cross_fitted(predictions) if self.uncalibrated else at_temperature(predictions, record["temperature"])
            )
        return self._calibrated[key]

    def value(self, record: Record, metric: str) -> float | None:
        """Return a metric of a finished cell; None where an older cell lacks it."""
        if metric not in (LOG_LOSS, BRIER):
            value: float | None = record.get(metric)
            return value
        predictions = self.calibrated(record)
        ones = np.ones((1, len(predictions.labels)))
        return float(replicates_of(predictions, ones, auroc=False)[AT_TEMPERATURE[metric]][0])

    @cached_property
    def missing(self) -> list[Cell]:
        """The cells without a record."""
        return [cell for cell in list_cells(self.plan) if cell not in self._cells]

    @cached_property
    def entries(self) -> list[Entry]:
        """Arms with budgets that have at least one finished cell, in the plan's order."""
        return list(dict.fromkeys(Entry(c.arm, c.budget) for c, r in self._cells.items() if r["status"] == "finished"))

    @cached_property
    def planned(self) -> list[Entry]:
        """Every arm with each of its budgets, finished or not."""
        return list(dict.fromkeys(Entry(c.arm, c.budget) for c in list_cells(self.plan)))

    @property
    def method(self) -> Entry:
        """The entry that the report is about, finished or not."""
        report = self.plan.report
        arm = report.method or next(
            (n for n, a in self.plan.arms.items() if a.kind == "sparse"), next(iter(self.plan.arms))
        )
        entries = [entry for entry in self.planned if entry.arm == arm]
        return next((entry for entry in entries if entry.budget == report.budget), entries[0])

    def of_kind(self, *kinds: str) -> list[Entry]:
        """List the entries of some kinds of arm."""
        return [entry for entry in self.entries if self.plan.arms[entry.arm].kind in kinds]

    def cells(self, entry: Entry, dataset: str | None = None) -> list[tuple[Cell, Record]]:
        """List the finished cells of an entry with their records."""
        return [
            (c, r)
            for c, r in self._cells.items()
            if (c.arm, c.budget) == (entry.arm, entry.budget)
            and r["status"] == "finished"
            and dataset in (None, c.dataset)
        ]

    def rows(self, entry: Entry, dataset: str | None = None) -> list[Record]:
        """List the records of an entry's finished cells."""
        return [record for _, record in self.cells(entry, dataset)]

    def by_seed(self, entry: Entry, dataset: str, metric: str) -> dict[int, float]:
        """Return a metric for each seed, averaged over random masks."""
        values: dict[int, list[float]] = {}
        for record in self.rows(entry, dataset):
            if (value := self.value(record, metric)) is not None:
                values.setdefault(record["seed"], []).append(value)
        return {seed: float(np.mean(of_masks)) for seed, of_masks in values.items()}

    def grid(self, entry: Entry) -> tuple[float, ...]:
        """Return the learning rates that an entry tries."""
        return self.plan.grid(self.plan.arms[entry.arm], entry.budget)

    def rates(self, entry: Entry, dataset: str) -> dict[float, bool]:
        """Return the chosen learning rates, each with whether it is at an edge of the grid."""
        rows = [record for record in self.rows(entry, dataset) if "lr" in record]
        if not rows:
            return {}
        grid = self.grid(entry)
        chosen = sorted({record["lr"] for record in rows})
        return {lr: len(grid) > 1 and lr in (min(grid), max(grid)) for lr in chosen}

    def edges(self, entry: Entry) -> dict[str, str]:
        """Return ``low`` or ``high`` for each dataset whose chosen learning rate is at that edge of the grid."""
        edges = {}
        for dataset in self.plan.datasets:
            at = [rate for rate, edge in self.rates(entry, dataset).items() if edge]
            if at:
                lowest = min(self.grid(entry))
                edges[dataset] = " and ".join("low" if rate == lowest else "high" for rate in at)
        return edges

    @property
    def tuned(self) -> list[Entry]:
        """The entries with a learning rate."""
        return [e for e in self.entries if any("lr" in record for record in self.rows(e))]

    def pending(self, entry: Entry) -> int:
        """Count the cells of an entry without a record; failed cells have one."""
        return sum((c.arm, c.budget) == (entry.arm, entry.budget) for c in self.missing)

    def mean(self, entry: Entry, metric: str, datasets: tuple[str, ...] = ()) -> float | None:
        """Return the mean over datasets of the mean over seeds; None if a dataset is missing.

        Args:
            datasets: the datasets that count; by default those of ``common``, so that an unfinished one hides nothing.
        """
        means = [list(self.by_seed(entry, dataset, metric).values()) for dataset in datasets or self.common[1]]
        return float(np.mean([np.mean(values) for values in means])) if means and all(means) else None

    def typical(self, entry: Entry, name: str) -> float:
        """Return a number of an entry's records, such as ``trained``, averaged over them."""
        return float(np.mean([record[name] for record in self.rows(entry)]))

    def baseline(self, metric: str) -> Entry | None:
        """Return the better of linear probe and head alone, over the datasets that all ranked arms have."""
        frozen = self.of_kind("probe", "head")
        known = [(value, e) for e in frozen if (value := self.mean(e, metric, self.common[1])) is not None]
        sign = -1 if metric in SMALLER_IS_BETTER else 1
        return max(known, key=lambda pair: sign * pair[0])[1] if known else None

    @cached_property
    def common(self) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """The largest complete block of the table: entries, and the datasets that all of them have."""
        has = {e: {d for d in self.plan.datasets if self.rows(e, d)} for e in self.entries}
        blocks = []
        for least in {len(datasets) for datasets in has.values()}:
            entries = tuple(e for e in self.entries if len(has[e]) >= least)
            shared = set.intersection(*(has[e] for e in entries))
            blocks.append((entries, tuple(d for d in self.plan.datasets if d in shared)))
        return max(blocks, key=lambda block: len(block[0]) * len(block[1]))

    def ranking(self, metric: str) -> Ranking | None:
        """Rank the arms over datasets, without those that repeat another one; None for fewer than two arms."""
        common, datasets = self.common
        entries = tuple(entry for entry in common if self.plan.arms[entry.arm].kind != "choice")
        if len(entries) < 2 or not datasets:
            return None
        sign = -1 if metric in SMALLER_IS_BETTER else 1
        scores = [[sign * (self.mean(e, metric, (d,)) or 0.0) for e in entries] for d in datasets]
        ranks = significance.ranks(np.array(scores))
        order = sorted(range(len(entries)), key=lambda i: ranks.mean[i])
        return Ranking(
            tuple(entries[i] for i in order),
            datasets,
            tuple(ranks.mean[i] for i in order),
            ranks.p,
            significance.critical_difference(len(entries), len(datasets)),
        )


def results_by_task(plan: Plan, table: Table) -> list[Results]:
    """Return the results of each task of a plan's datasets, whose measures have no common mean.

    Numbers of different units count as different tasks, and each number of training images is by itself.

    Raises:
        RunError: no cell of the plan is finished.
    """
    finished, plans = table.cells(), plan.by_images
    parts = []
    for own in plans:
        datasets = {cell.dataset for cell in list_cells(own) if cell.key in finished}
        groups = (names for names in group_datasets(own, finished).values() if datasets & set(names))
        parts += [Results(own, table, names, several_images=len(plans) > 1) for names in groups]
    return parts or [Results(plans[0], table)]


def group_datasets(plan: Plan, finished: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """Return a plan's datasets by the heading of their task, in the plan's order.

    A dataset without a finished cell is of the task that the plan names; where it names none, of the first dataset's.

    Args:
        finished: the records of the table, by key.
    """
    records = ((cell.dataset, finished[cell.key]) for cell in list_cells(plan) if cell.key in finished)
    headings = {dataset: _heading(read_task(record.get("task"))) for dataset, record in records}
    usual = next(iter(headings.values()), _heading(read_task(None)))
    groups: dict[str, tuple[str, ...]] = {}
    for name, config in plan.datasets.items():
        if name in headings:
            heading = headings[name]
        elif config.task == "auto":
            heading = usual
        else:
            alike = _heading(TASKS[config.task]())
            heading = next((known for known in headings.values() if known.startswith(alike)), alike)
        groups[heading] = (*groups.get(heading, ()), name)
    return groups


def describe_record(record: Record) -> str:
    """Return the metrics of a finished cell that stand for it, in a line.

    Examples:
        >>> describe_record({"log_loss": 0.5, "balanced_accuracy": 0.75})
        'log loss 50.0, balanced accuracy 75.0'
        >>> task = {"name": "regression", "mean": 9.0, "std": 4.0, "unit": "mm"}
        >>> describe_record({"mae": 2.286, "r2": 0.412, "task": task})
        'mean absolute error 2.29 mm, R² 41.2'
    """
    task = read_task(record.get("task"))
    names = ("log_loss", "balanced_accuracy") if task == SINGLE_LABEL else measures_of(task).shown
    known = [(name, scale_of(task, name)) for name in names if record.get(name) is not None]
    return ", ".join(
        f"{inside(name)} {scale.text(record[name])}{'' if scale == POINTS else f' {scale.unit}'}"
        for name, scale in known
    )


def _heading(task: Task) -> str:
    unit = f", in {task.unit}" if isinstance(task, Regression) and task.unit else ""
    return measures_of(task).heading + unit

"""Paired comparisons of arms on the same resamples of the same test cases; each cell is resampled once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shpeft.compare.analysis import bootstrap, significance
from shpeft.compare.analysis.bootstrap import Array, Difference, Estimate
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.analysis.significance import Equivalence
from shpeft.compare.measures import AT_TEMPERATURE, CALIBRATED, POINTS, SMALLER_IS_BETTER, Scale
from shpeft.compare.table import Record
from shpeft.errors import RunError
from shpeft.evaluation.by_task import at_temperature, replicates_of
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import SingleLabel


@dataclass(frozen=True)
class Discordance:
    """Test cases that only one of two arms gets right; of findings and numbers a case is neither right nor wrong.

    Attributes:
        cases: test cases of a seed.
        groups: patients of these cases, or images where patients are unknown.
        seeds: seeds that both arms have.
        only_method, only_other: cases that only this arm gets right, mean over seeds; None: the task has no such cases.
    """

    cases: int
    groups: int
    seeds: int
    only_method: float | None
    only_other: float | None

    @property
    def share(self) -> float | None:
        """The share of cases that only one of the arms gets right."""
        if self.only_method is None or self.only_other is None:
            return None
        return (self.only_method + self.only_other) / self.cases

    @property
    def false_claim(self) -> float | None:
        """The probability that the arm with the higher accuracy is not the better one (Christodoulou et al. 2025)."""
        if self.only_method is None or self.only_other is None:
            return None
        return significance.false_claim(*sorted((self.only_method, self.only_other), reverse=True))


@dataclass(frozen=True)
class PairedComparison:
    """A method against another arm, over the datasets and seeds that both have.

    Attributes:
        by_dataset: the paired difference, method − other, on each dataset.
        mean: the mean difference over datasets.
        tost: the equivalence tests against the plan's margin; None without one, or where a bootstrap has no spread.
        discordance: on each dataset, the cases that only one arm gets right.
        wilcoxon: p of the signed-rank test over datasets.
        identical: whether all probabilities are the same.
        complete: whether no cell of either arm is missing.
        scale: how differences are written.
        holm: the bootstrap's p, Holm-adjusted for all comparisons of the report.
        wilcoxon_holm: the signed-rank test's p, Holm-adjusted likewise.
    """

    method: Entry
    other: Entry
    metric: str
    by_dataset: dict[str, Difference]
    mean: Difference
    tost: Equivalence | None
    discordance: dict[str, Discordance]
    wilcoxon: float
    identical: bool
    complete: bool
    scale: Scale = POINTS
    holm: float = 1.0
    wilcoxon_holm: float = 1.0

    @property
    def counts(self) -> dict[str, int]:
        """The number of datasets with each verdict: ``better``, ``tie``, ``same`` and ``worse``."""
        verdicts = [difference.verdict for difference in self.by_dataset.values()]
        return {verdict: verdicts.count(verdict) for verdict in ("better", "tie", "same", "worse")}

    @property
    def pooled(self) -> Discordance:
        """The discordance over the test cases of all datasets, with the fewest seeds of any."""
        parts = list(self.discordance.values())
        return Discordance(
            sum(part.cases for part in parts),
            sum(part.groups for part in parts),
            min(part.seeds for part in parts),
            _sum(part.only_method for part in parts),
            _sum(part.only_other for part in parts),
        )


class Bootstrap:
    """Bootstrap replicates of every cell of some results, on draws that all arms share.

    Args:
        resamples: number of replicates; 2,000 give a limit of a 95 % interval to about 5 % of its width.
    """

    def __init__(self, results: Results, resamples: int = 2000):
        self.results, self.resamples = results, resamples
        self._weights: dict[str, dict[int, Array]] = {}
        self._values: dict[tuple[object, ...], Array] = {}

    def by_seed(self, entry: Entry, dataset: str, metric: str, pair: tuple[str, str] | None = None) -> dict[int, Array]:
        """Return a metric of each finished seed with its replicates, (1 + R,), averaged over random masks.

        Args:
            pair: two classes; only their cases and their probabilities count then.
        """
        values: dict[int, list[Array]] = {}
        for cell, record in self.results.cells(entry, dataset):
            if metric != CALIBRATED or "temperature" in record:  # older cells have none
                replicates = self._replicates(record, dataset, cell.seed, metric, pair)
                values.setdefault(cell.seed, []).append(replicates)
        return {seed: np.mean(of_masks, axis=0) for seed, of_masks in values.items()}

    def estimate(self, entry: Entry, metric: str, datasets: Iterable[str]) -> Estimate:
        """Return the mean of a metric over seeds and datasets."""
        means = [
            bootstrap.over_seeds(np.array(list(self.by_seed(entry, dataset, metric).values())), self._seed(dataset))
            for dataset in datasets
        ]
        mean = np.mean(means, axis=0)
        return Estimate(float(mean[0]), mean[1:])

    def difference(
        self, a: Entry, b: Entry, dataset: str, metric: str, pair: tuple[str, str] | None = None
    ) -> Difference | None:
        """Return a − b over the seeds that both have; None where they share none."""
        ours, theirs = (self.by_seed(entry, dataset, metric, pair) for entry in (a, b))
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            return None
        difference = bootstrap.paired(
            np.array([ours[s] for s in seeds]),
            np.array([theirs[s] for s in seeds]),
            self._seed(dataset),
            larger_is_better=metric not in SMALLER_IS_BETTER,
        )
        return bootstrap.recentered(difference) if metric in ("ece", CALIBRATED) else difference

    def compare(self, method: Entry, other: Entry, metric: str) -> PairedComparison | None:
        """Compare one arm with another; None where they share no dataset and seed."""
        results = self.results
        differences = {
            dataset: difference
            for dataset in results.plan.datasets
            if (difference := self.difference(method, other, dataset, metric)) is not None
        }
        if not differences:
            return None
        mean, margin = bootstrap.mean_difference(list(differences.values())), results.margin(metric)
        predictions = {dataset: self._paired_predictions(method, other, dataset) for dataset in differences}
        return PairedComparison(
            method,
            other,
            metric,
            differences,
            mean,
            None if margin is None else significance.tost(mean, margin),
            {dataset: _discordance(*pair) for dataset, pair in predictions.items()},
            significance.wilcoxon([d.value for d in differences.values()]),
            mean.same and all(_identical(*pair) for pair in predictions.values()),
            not results.pending(method) and not results.pending(other),
            results.scale(metric),
        )

    def compare_all(self, method: Entry | None = None, metric: str | None = None) -> list[PairedComparison]:
        """Compare an arm, by default the plan's method, with every other; p values are Holm-adjusted."""
        method, metric = method or self.results.method, metric or self.results.metric
        others = [entry for entry in self.results.entries if entry != method]
        pairs = (self.compare(method, other, metric) for other in others)
        comparisons = [comparison for comparison in pairs if comparison is not None]
        holm = significance.holm([c.mean.p for c in comparisons])
        wilcoxon = significance.holm([c.wilcoxon for c in comparisons])
        return [replace(c, holm=p, wilcoxon_holm=q) for c, p, q in zip(comparisons, holm, wilcoxon, strict=True)]

    def _seed(self, dataset: str) -> int:
        return list(self.results.plan.datasets).index(dataset)

    def _replicates(self, record: Record, dataset: str, seed: int, metric: str, pair: tuple[str, str] | None) -> Array:
        key = record["key"]
        if (replicates := self._values.get((key, metric, pair))) is None:
            predictions, weights = self._predictions(record, metric), self._draws(dataset)[seed]
            if weights.shape[1] != len(predictions.labels):
                raise RunError(
                    f"Cells of {dataset} with seed {seed} were tested on different images, so they cannot be compared. "
                    "Fill a new table with 'shpeft compare --out'."
                )
            if pair is not None:
                predictions, rows = between(predictions, pair)
                weights = weights[:, rows]
            values = replicates_of(predictions, weights, auroc=metric == "macro_auroc")
            replicates = self._values[key, metric, pair] = values[AT_TEMPERATURE.get(metric, metric)]
        return replicates

    def _predictions(self, record: Record, metric: str) -> Predictions:
        if metric == CALIBRATED:
            return at_temperature(self.results.predictions(record["key"]), record["temperature"])
        return self.results.calibrated(record) if metric in AT_TEMPERATURE else self.results.predictions(record["key"])

    def _draws(self, dataset: str) -> dict[int, Array]:
        if dataset not in self._weights:
            groups = {
                r["seed"]: self.results.predictions(r["key"]).groups
                for r in self.results.records
                if r["dataset"] == dataset and r["status"] == "finished"
            }
            drawn = bootstrap.draw(list(groups.values()), self.resamples, self._seed(dataset))
            self._weights[dataset] = dict(zip(groups, drawn, strict=True))
        return self._weights[dataset]

    def _paired_predictions(
        self, a: Entry, b: Entry, dataset: str
    ) -> tuple[list[list[Predictions]], list[list[Predictions]]]:
        """Return the predictions of two arms, by mask, for each seed that both have."""
        sides = []
        for entry in (a, b):
            by_seed: dict[int, list[Predictions]] = {}
            for cell, record in self.results.cells(entry, dataset):
                by_seed.setdefault(cell.seed, []).append(self.results.predictions(record["key"]))
            sides.append(by_seed)
        seeds = [seed for seed in sides[0] if seed in sides[1]]
        return [sides[0][s] for s in seeds], [sides[1][s] for s in seeds]


def between(predictions: Predictions, pair: tuple[str, str]) -> tuple[Predictions, NDArray[np.int64]]:
    """Restrict predictions to two classes.

    Returns:
        The cases of the two classes with probabilities that sum to 1 over them, and the rows of these cases.

    Raises:
        RunError: there is no such class.
    """
    if unknown := [name for name in pair if name not in predictions.classes]:
        raise RunError(
            f"The plan's report.pairs name the class {unknown[0]!r}; there are {', '.join(predictions.classes)}."
        )
    columns = [predictions.classes.index(name) for name in pair]
    labels = np.asarray(predictions.labels)
    rows = np.flatnonzero(np.isin(labels, columns))
    p = np.maximum(predictions.probabilities[rows][:, columns], 1e-12)
    return Predictions(
        tuple(predictions.ids[row] for row in rows),
        tuple(columns.index(labels[row]) for row in rows),
        tuple(predictions.groups[row] for row in rows),
        pair,
        p / p.sum(1, keepdims=True),
    ), rows


def _discordance(a: list[list[Predictions]], b: list[list[Predictions]]) -> Discordance:
    first = a[0][0]
    right_or_wrong = isinstance(first.task, SingleLabel)
    only_a, only_b = significance.discordant(a, b) if right_or_wrong else (None, None)
    return Discordance(len(first.labels), len(set(first.groups)), len(a), only_a, only_b)


def _sum(counts: Iterable[float | None]) -> float | None:
    """Return the sum; None if one of them is unknown."""
    known = list(counts)
    return None if None in known else sum(filter(None, known))


def _identical(a: list[list[Predictions]], b: list[list[Predictions]]) -> bool:
    return all(
        np.array_equal(x.probabilities, y.probabilities)
        for ours, theirs in zip(a, b, strict=True)
        for x in ours
        for y in theirs
    )

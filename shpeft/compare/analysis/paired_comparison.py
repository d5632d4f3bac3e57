"""Arms against each other on the same resamples of the same test cases; each cell is resampled once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shpeft.compare import statistics
from shpeft.compare.results import SMALLER_IS_BETTER, Entry, Results
from shpeft.compare.statistics import Array, Difference, Equivalence, Estimate
from shpeft.compare.table import CALIBRATED, Record, at_temperature
from shpeft.errors import RunError
from shpeft.evaluation import Predictions, weighted_metrics


@dataclass(frozen=True)
class Odds:
    """How sure it is, on one dataset, which of two arms is right more often.

    Attributes:
        cases: test cases of a seed; ``groups`` of which they are (patients).
        only_method, only_other: how many of them only one of the arms gets right, the mean over seeds.
        false_claim: the probability that the arm that is ahead in accuracy is not the better one.
    """

    cases: int
    groups: int
    seeds: int
    only_method: float
    only_other: float

    @property
    def disagree(self) -> float:
        """The share of cases that only one of them gets right."""
        return (self.only_method + self.only_other) / self.cases

    @property
    def false_claim(self) -> float:
        """Christodoulou et al. 2025."""
        return statistics.false_claim(*sorted((self.only_method, self.only_other), reverse=True))


@dataclass(frozen=True)
class Duel:
    """An arm, the method, against another one, over the datasets and seeds that both have.

    Attributes:
        by_dataset: the paired difference, method − other, on each dataset.
        mean: that of the mean over datasets.
        tost: against the plan's margin; None where a bootstrap has no spread.
        holm: the bootstrap's p, adjusted for all duels.
        wilcoxon: p of the signed-rank test over datasets, ``wilcoxon_holm`` the same, adjusted.
        identical: every probability is the same.
        complete: no cell of either is missing.
    """

    method: Entry
    other: Entry
    metric: str
    by_dataset: dict[str, Difference]
    mean: Difference
    tost: Equivalence | None
    odds: dict[str, Odds]
    wilcoxon: float
    identical: bool
    complete: bool
    holm: float = 1.0
    wilcoxon_holm: float = 1.0

    @property
    def counts(self) -> dict[str, int]:
        """On how many datasets it is ``better``, ``worse``, a ``tie`` or the ``same``."""
        verdicts = [difference.verdict for difference in self.by_dataset.values()]
        return {word: verdicts.count(word) for word in ("better", "tie", "same", "worse")}

    @property
    def pooled(self) -> Odds:
        """The odds over the test cases of all datasets together, and the fewest seeds of any."""
        of = list(self.odds.values())
        return Odds(
            sum(odds.cases for odds in of),
            sum(odds.groups for odds in of),
            min(odds.seeds for odds in of),
            sum(odds.only_method for odds in of),
            sum(odds.only_other for odds in of),
        )


class Bootstrap:
    """Replicates of every cell of some results, on draws that all arms share.

    Args:
        resamples: how many; 2,000 give a limit of a 95 % interval to about 5 % of its width.
    """

    def __init__(self, results: Results, resamples: int = 2000):
        self.results, self.resamples = results, resamples
        self._weights: dict[str, dict[int, Array]] = {}
        self._values: dict[tuple[object, ...], Array] = {}

    def by_seed(self, entry: Entry, dataset: str, metric: str, pair: tuple[str, str] | None = None) -> dict[int, Array]:
        """A metric of each finished seed with its replicates, (1 + R,), the mean over random masks.

        Args:
            pair: two classes; only their cases count then, and only their probabilities.
        """
        found: dict[int, list[Array]] = {}
        for cell, record in self.results.cells(entry, dataset):
            if metric != CALIBRATED or "temperature" in record:  # which older cells do not have
                replicates = self._replicates(record, dataset, cell.seed, metric, pair)
                found.setdefault(cell.seed, []).append(replicates)
        return {seed: np.mean(values, axis=0) for seed, values in found.items()}

    def estimate(self, entry: Entry, metric: str, datasets: Iterable[str]) -> Estimate:
        """The mean over seeds and datasets."""
        found = [
            statistics.over_seeds(np.array(list(self.by_seed(entry, dataset, metric).values())), self._seed(dataset))
            for dataset in datasets
        ]
        mean = np.mean(found, axis=0)
        return Estimate(float(mean[0]), mean[1:])

    def difference(
        self, a: Entry, b: Entry, dataset: str, metric: str, pair: tuple[str, str] | None = None
    ) -> Difference | None:
        """a − b over the seeds that both have; None without one."""
        ours, theirs = (self.by_seed(entry, dataset, metric, pair) for entry in (a, b))
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            return None
        found = statistics.paired(
            np.array([ours[s] for s in seeds]),
            np.array([theirs[s] for s in seeds]),
            self._seed(dataset),
            larger_is_better=metric not in SMALLER_IS_BETTER,
        )
        return statistics.recentred(found) if metric in ("ece", CALIBRATED) else found

    def duel(self, method: Entry, other: Entry, metric: str) -> Duel | None:
        """One arm against another; None where they share no dataset and seed."""
        results = self.results
        differences = {
            dataset: found
            for dataset in results.plan.datasets
            if (found := self.difference(method, other, dataset, metric)) is not None
        }
        if not differences:
            return None
        mean = statistics.mean_difference(list(differences.values()))
        met = {dataset: self._met(method, other, dataset) for dataset in differences}
        return Duel(
            method,
            other,
            metric,
            differences,
            mean,
            statistics.tost(mean, results.plan.report.margin),
            {dataset: _odds(*pairs) for dataset, pairs in met.items()},
            statistics.wilcoxon([d.value for d in differences.values()]),
            mean.same and all(_identical(*pairs) for pairs in met.values()),
            not results.pending(method) and not results.pending(other),
        )

    def duels(self, method: Entry | None = None, metric: str | None = None) -> list[Duel]:
        """An arm, by default the plan's method, against every other; p values adjusted for their number by Holm."""
        method, metric = method or self.results.method, metric or self.results.plan.report.metric
        others = [entry for entry in self.results.entries if entry != method]
        found = [duel for other in others if (duel := self.duel(method, other, metric)) is not None]
        holm, wilcoxon = (
            statistics.holm(values) for values in ([d.mean.p for d in found], [d.wilcoxon for d in found])
        )
        return [replace(d, holm=p, wilcoxon_holm=q) for d, p, q in zip(found, holm, wilcoxon, strict=True)]

    def _seed(self, dataset: str) -> int:
        return list(self.results.plan.datasets).index(dataset)

    def _replicates(self, record: Record, dataset: str, seed: int, metric: str, pair: tuple[str, str] | None) -> Array:
        key = record["key"]
        if (found := self._values.get((key, metric, pair))) is None:
            predictions, weights = self.results.predictions(key), self._draws(dataset)[seed]
            if weights.shape[1] != len(predictions.labels):
                raise RunError(f"Cells of {dataset} with seed {seed} were tested on different images.")
            if pair is not None:
                predictions, rows = between(predictions, pair)
                weights = weights[:, rows]
            if metric == CALIBRATED:
                predictions = at_temperature(predictions, record["temperature"])
            values = weighted_metrics(predictions, weights, auroc=metric == "macro_auroc")
            found = self._values[key, metric, pair] = values["ece" if metric == CALIBRATED else metric]
        return found

    def _draws(self, dataset: str) -> dict[int, Array]:
        if dataset not in self._weights:
            groups = {
                r["seed"]: self.results.predictions(r["key"]).groups
                for r in self.results.records
                if r["dataset"] == dataset and r["status"] == "finished"
            }
            drawn = statistics.draw(list(groups.values()), self.resamples, self._seed(dataset))
            self._weights[dataset] = dict(zip(groups, drawn, strict=True))
        return self._weights[dataset]

    def _met(self, a: Entry, b: Entry, dataset: str) -> tuple[list[list[Predictions]], list[list[Predictions]]]:
        """Predictions of both for each seed that both have."""
        sides = []
        for entry in (a, b):
            by_seed: dict[int, list[Predictions]] = {}
            for cell, record in self.results.cells(entry, dataset):
                by_seed.setdefault(cell.seed, []).append(self.results.predictions(record["key"]))
            sides.append(by_seed)
        seeds = [seed for seed in sides[0] if seed in sides[1]]
        return [sides[0][s] for s in seeds], [sides[1][s] for s in seeds]


def between(predictions: Predictions, pair: tuple[str, str]) -> tuple[Predictions, NDArray[np.int64]]:
    """Two classes alone: their cases, the probabilities of the two made to sum to 1, and which rows these are.

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


def _odds(a: list[list[Predictions]], b: list[list[Predictions]]) -> Odds:
    first = a[0][0]
    return Odds(len(first.labels), len(set(first.groups)), len(a), *statistics.discordant(a, b))


def _identical(a: list[list[Predictions]], b: list[list[Predictions]]) -> bool:
    return all(
        np.array_equal(x.probabilities, y.probabilities)
        for ours, theirs in zip(a, b, strict=True)
        for x in ours
        for y in theirs
    )

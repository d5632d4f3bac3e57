"""Compare supports of tasks, scores and seeds with chance, and magnitude with the consensus of tasks.

No weight is trained. Chance is hypergeometric: what random supports share, over all weights and within layers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from shpeft.backbones import Backbone
from shpeft.compare.analysis.results import size
from shpeft.compare.arm import Arm, Budget
from shpeft.compare.cells import Cell
from shpeft.compare.plan import Plan
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.compare.table import Table
from shpeft.errors import ConfigError
from shpeft.importance.scores import Scores, consensus, estimate_importance
from shpeft.selection.overlap import overlap
from shpeft.selection.top_k import Support, select
from shpeft.support.progress import Progress, silent

SAMPLE = 2_000_000
"""The largest number of weights that a rank correlation is computed on, as a seeded sample."""

Supports = dict[tuple[str, str, int], Support]
"""Supports by arm, dataset and seed."""


@dataclass(frozen=True)
class SupportPair:
    """The overlap of two supports of k weights.

    Attributes:
        kind: what differs: ``tasks``, ``scores`` or ``seeds``.
        arms: the arm, or both arms where the scores differ.
        on: the datasets and seeds.
        budget: the budget of both supports.
        k: number of weights of each.
        intersection: number of shared weights.
        expected: the intersection expected by chance.
        p: the probability of at least this intersection by chance.
        layers: for each matrix, such as ``attn.qkv``, the intersection and its expectation by chance.
    """

    kind: str
    arms: str
    on: str
    budget: Budget
    k: int
    intersection: int
    expected: float
    p: float
    layers: dict[str, tuple[int, float]]

    @property
    def share(self) -> float:
        """The intersection as a fraction of k."""
        return self.intersection / self.k


@dataclass(frozen=True)
class PrecisionAtK:
    """How many of the ``chosen`` weights another score selects, too, and how many are expected by chance."""

    hits: int
    chosen: int
    expected: float

    @property
    def share(self) -> float:
        """The precision at k."""
        return self.hits / self.chosen if self.chosen else 0.0

    @property
    def chance(self) -> float:
        """The precision expected by chance."""
        return self.expected / self.chosen if self.chosen else 0.0


@dataclass(frozen=True)
class MagnitudeAgreement:
    """How well magnitude ranks weights as the consensus of all tasks does.

    Attributes:
        correlation: Spearman's rank correlation over all weights.
        auroc: for each budget, the AUROC of magnitude for the weights that the consensus selects.
        precision: for each budget, how many of the k best weights by consensus are among the k largest.
        by_layer: the rank correlation within each parameter.
        precision_by_layer: for each budget and parameter, the precision at the consensus' count there.
    """

    correlation: float
    auroc: dict[str, float]
    precision: dict[str, PrecisionAtK]
    by_layer: dict[str, float]
    precision_by_layer: dict[str, dict[str, PrecisionAtK]]


def compare_supports(
    plan: Plan, out: str | Path, *, root: str | Path = ".", progress: Progress = silent
) -> tuple[list[SupportPair], MagnitudeAgreement | None]:
    """Compute the overlaps that a plan asks for, and compare magnitude with the consensus of its datasets.

    Returns:
        The overlaps, and the agreement of magnitude; None where there is a single dataset.

    Raises:
        ConfigError: the plan names no arms under ``overlaps``.
    """
    if not plan.overlaps.arms:
        raise ConfigError(
            "The plan names no arms whose weights to compare. Give overlaps.arms, such as [gradient, magnitude]."
        )
    tasks = Tasks(plan, root, progress)
    score_cache = ScoreCache(tasks, Table(out))
    supports: dict[Budget, Supports] = {budget: {} for budget in plan.overlaps.budgets}
    for seed, dataset, arm in product(plan.seeds, plan.datasets, plan.overlaps.arms):
        for budget, of_budget in supports.items():
            of_budget[arm, dataset, seed] = score_cache.support(Cell(plan, dataset, arm, budget, seed))
    pairs = [
        pair
        for budget, of_budget in supports.items()
        for pair in _pairs(plan, of_budget, tasks.latest.backbone, budget)
    ]
    return pairs, _compare_magnitude(plan, tasks, score_cache) if len(plan.datasets) > 1 else None


def _pairs(plan: Plan, supports: Supports, backbone: Backbone, budget: Budget) -> list[SupportPair]:
    compared, first = [], plan.seeds[0]
    scopes = {arm: {info.name for info in backbone.weight_infos(plan.arms[arm].eligible)} for arm in plan.overlaps.arms}
    from_data = [arm for arm in plan.overlaps.arms if plan.arms[arm].score not in ("magnitude", "random")]
    for arm in from_data:  # the others do not depend on the images
        for a, b in combinations(plan.datasets, 2):
            compared.append(("tasks", arm, f"{a}, {b}", (arm, a, first), (arm, b, first)))
        for dataset in plan.datasets:
            for x, y in combinations(plan.seeds, 2):
                compared.append(("seeds", arm, f"{dataset}, {x}, {y}", (arm, dataset, x), (arm, dataset, y)))
    for dataset in plan.datasets:
        for a, b in combinations(plan.overlaps.arms, 2):
            compared.append(("scores", f"{a} and {b}", dataset, (a, dataset, first), (b, dataset, first)))
    pairs = []
    for kind, arms, on, left, right in compared:
        eligible = tuple(info for info in backbone.weight_infos() if info.name in scopes[left[0]] | scopes[right[0]])
        both = overlap(supports[left], supports[right], eligible)
        layers: dict[str, tuple[int, float]] = {}
        for layer in both.layers:
            if layer.a or layer.b:
                shared, chance = layers.get(name := layer.matrix.removesuffix(".weight"), (0, 0.0))
                layers[name] = shared + layer.intersection, chance + layer.chance
        pairs.append(SupportPair(kind, arms, on, budget, both.a, both.intersection, both.chance, both.p_value, layers))
    return pairs


def grouped(pairs: Iterable[SupportPair]) -> dict[str, list[SupportPair]]:
    """Group pairs by what is compared, such as ``tasks: gradient, 0.01 %``."""
    groups: dict[str, list[SupportPair]] = {}
    for pair in pairs:
        groups.setdefault(f"{pair.kind}: {pair.arms}, {size(pair.budget)}", []).append(pair)
    return groups


def _compare_magnitude(plan: Plan, tasks: Tasks, score_cache: ScoreCache) -> MagnitudeAgreement:
    usual = Arm(kind="sparse", score="gradient", scope=plan.scope)
    arm = next((a for a in plan.arms.values() if a.score == "gradient"), usual)
    seed, names = plan.seeds[0], list(plan.datasets)
    agreed = consensus([score_cache.specific(arm, name, seed) for name in names])
    task = tasks.get(names[0], seed)
    magnitude = estimate_importance(task.backbone, task.data.train, "magnitude", scope=arm.eligible)
    return magnitude_agreement(magnitude, agreed, plan.overlaps.budgets)


def magnitude_agreement(magnitude: Scores, agreed: Scores, budgets: Iterable[Budget]) -> MagnitudeAgreement:
    """Compare magnitude with the consensus: rank correlation, AUROC and precision, in all and in each parameter."""
    w, c = _flat(magnitude), _flat(agreed)
    order = np.sort(w)
    aurocs, precisions = {}, {}
    by_layer: dict[str, dict[str, PrecisionAtK]] = {}
    for budget in budgets:
        name, best, largest = f"{budget:g}", select(agreed, budget), select(magnitude, budget)
        picked = [magnitude.values[n].reshape(-1)[index].numpy() for n, index in best.indices.items()]
        aurocs[name] = auroc(np.concatenate(picked), order)
        both = overlap(best, largest, magnitude.infos)
        precisions[name] = PrecisionAtK(both.intersection, both.a, both.chance)
        by_layer[name] = {n: _within(magnitude, n, index.numpy()) for n, index in best.indices.items()}
    correlations = {
        info.name: _spearman(_flat_parameter(magnitude, info.name), _flat_parameter(agreed, info.name))
        for info in agreed.infos
    }
    return MagnitudeAgreement(_spearman(w, c), aurocs, precisions, correlations, by_layer)


def _within(magnitude: Scores, name: str, chosen: NDArray[Any]) -> PrecisionAtK:
    """Count the chosen weights of a parameter among as many of its largest; ties go to the earlier weight."""
    values, k = _flat_parameter(magnitude, name), len(chosen)
    largest = np.argsort(-values, kind="stable")[:k]
    return PrecisionAtK(len(np.intersect1d(largest, chosen)), k, k * k / len(values))


def auroc(positives: NDArray[Any], ordered: NDArray[Any]) -> float:
    """Return the probability that a positive outranks a negative, with ties counted half.

    Args:
        positives: (k,) scores of the positives.
        ordered: (n,) scores of positives and negatives, ascending.
    """
    k, n = len(positives), len(ordered)
    below = (np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")).sum() / 2
    return float((below - k * k / 2) / (k * (n - k)))


def _spearman(x: NDArray[Any], y: NDArray[Any]) -> float:
    if len(x) > SAMPLE:
        rows = np.random.default_rng(0).choice(len(x), SAMPLE, replace=False)
        x, y = x[rows], y[rows]
    return float(spearmanr(x, y).statistic)


def _flat_parameter(scores: Scores, name: str) -> NDArray[Any]:
    values: NDArray[Any] = scores.values[name].reshape(-1).numpy()
    return values


def _flat(scores: Scores) -> NDArray[Any]:
    return np.concatenate([_flat_parameter(scores, info.name) for info in scores.infos])

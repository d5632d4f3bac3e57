"""Do tasks, scores and seeds choose the same weights, and does magnitude foretell what the tasks agree on?

No weight is trained. Supports are compared with what random choices share (hypergeometric), in all and layer by layer.
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
from shpeft.compare.plan import Arm, Budget, Cell, Plan
from shpeft.compare.results import size
from shpeft.compare.scores import ScoreBook
from shpeft.compare.table import Table
from shpeft.compare.tasks import Tasks
from shpeft.errors import ConfigError
from shpeft.importance import Scores, consensus, estimate_importance
from shpeft.overlaps import overlap
from shpeft.progress import Progress, silent
from shpeft.selection import Support, select

SAMPLE = 2_000_000
"""Weights that rank correlations are computed on, at most: a seeded sample."""

Places = dict[tuple[str, str, int], Support]
"""Supports by arm, dataset and seed."""


@dataclass(frozen=True)
class Pair:
    """How far two choices of k weights agree.

    Attributes:
        kind: what differs: ``tasks``, ``scores`` or ``seeds``.
        arms: the arm whose choices they are, or both arms where the scores differ.
        on: the datasets and seeds.
        expected: the intersection that chance gives; ``p`` that of at least the one found.
        layers: by matrix, such as ``attn.qkv``: intersection and what chance gives there.
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
        """Shared weights as a fraction of k."""
        return self.intersection / self.k


@dataclass(frozen=True)
class Precision:
    """How many of ``chosen`` weights another score chooses, too, and how many chance gives."""

    hits: int
    chosen: int
    expected: float

    @property
    def share(self) -> float:
        """The precision at k."""
        return self.hits / self.chosen if self.chosen else 0.0

    @property
    def chance(self) -> float:
        """The share that chance gives."""
        return self.expected / self.chosen if self.chosen else 0.0


@dataclass(frozen=True)
class Foretold:
    """How well magnitude ranks weights as the consensus of all tasks does.

    Attributes:
        correlation: Spearman's, over all weights; ``by_layer`` within each parameter.
        auroc: for each budget, of magnitude as a test for being among the consensus' best.
        precision: for each budget, how many of the k best by consensus are among the k largest.
        precision_by_layer: for each budget and parameter the same, with as many as the consensus has there.
    """

    correlation: float
    auroc: dict[str, float]
    precision: dict[str, Precision]
    by_layer: dict[str, float]
    precision_by_layer: dict[str, dict[str, Precision]]


def compare_supports(
    plan: Plan, out: str | Path, *, root: str | Path = ".", progress: Progress = silent
) -> tuple[list[Pair], Foretold | None]:
    """The overlaps that a plan asks for, and magnitude against the consensus of its datasets.

    Raises:
        ConfigError: the plan names no arms under ``overlaps``.
    """
    if not plan.overlaps.arms:
        raise ConfigError("The plan names no arms to compare: give overlaps.arms, such as [gradient, magnitude].")
    tasks = Tasks(plan, root, progress)
    book = ScoreBook(tasks, Table(out))
    supports: dict[Budget, Places] = {budget: {} for budget in plan.overlaps.budgets}
    for seed, dataset, arm in product(plan.seeds, plan.datasets, plan.overlaps.arms):
        for budget, places in supports.items():
            places[arm, dataset, seed] = book.support(Cell(plan, dataset, arm, budget, seed))
    pairs = [
        pair for budget, places in supports.items() for pair in _pairs(plan, places, tasks.present.backbone, budget)
    ]
    return pairs, _foretell(plan, tasks, book) if len(plan.datasets) > 1 else None


def _pairs(plan: Plan, supports: Places, backbone: Backbone, budget: Budget) -> list[Pair]:
    found, first = [], plan.seeds[0]
    scopes = {arm: {info.name for info in backbone.weight_infos(plan.arms[arm].eligible)} for arm in plan.overlaps.arms}
    from_data = [arm for arm in plan.overlaps.arms if plan.arms[arm].score not in ("magnitude", "random")]
    for arm in from_data:  # the others choose the same weights whatever the images
        for a, b in combinations(plan.datasets, 2):
            found.append(("tasks", arm, f"{a}, {b}", (arm, a, first), (arm, b, first)))
        for dataset in plan.datasets:
            for x, y in combinations(plan.seeds, 2):
                found.append(("seeds", arm, f"{dataset}, {x}, {y}", (arm, dataset, x), (arm, dataset, y)))
    for dataset in plan.datasets:
        for a, b in combinations(plan.overlaps.arms, 2):
            found.append(("scores", f"{a} and {b}", dataset, (a, dataset, first), (b, dataset, first)))
    pairs = []
    for kind, arms, on, left, right in found:
        eligible = tuple(info for info in backbone.weight_infos() if info.name in scopes[left[0]] | scopes[right[0]])
        both = overlap(supports[left], supports[right], eligible)
        layers: dict[str, tuple[int, float]] = {}
        for layer in both.layers:
            if layer.a or layer.b:
                shared, chance = layers.get(name := layer.matrix.removesuffix(".weight"), (0, 0.0))
                layers[name] = shared + layer.intersection, chance + layer.chance
        pairs.append(Pair(kind, arms, on, budget, both.a, both.intersection, both.chance, both.p_value, layers))
    return pairs


def grouped(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """Pairs by what is compared, such as ``tasks: gradient, 0.01 %``."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(f"{pair.kind}: {pair.arms}, {size(pair.budget)}", []).append(pair)
    return groups


def _foretell(plan: Plan, tasks: Tasks, book: ScoreBook) -> Foretold:
    arm = next((a for a in plan.arms.values() if a.score == "gradient"), Arm(kind="sparse", score="gradient"))
    seed, names = plan.seeds[0], list(plan.datasets)
    agreed = consensus([book.specific(arm, name, seed) for name in names])
    task = tasks.get(names[0], seed)
    magnitude = estimate_importance(task.backbone, task.data.train, "magnitude", scope=arm.eligible)
    return foretell(magnitude, agreed, plan.overlaps.budgets)


def foretell(magnitude: Scores, agreed: Scores, budgets: Iterable[Budget]) -> Foretold:
    """Rank correlation, AUROC and precision of magnitude against the consensus, in all and in each parameter."""
    w, c = _flat(magnitude), _flat(agreed)
    order = np.sort(w)
    aurocs, precisions = {}, {}
    by_layer: dict[str, dict[str, Precision]] = {}
    for budget in budgets:
        name, best, largest = f"{budget:g}", select(agreed, budget), select(magnitude, budget)
        picked = [magnitude.values[n].reshape(-1)[index].numpy() for n, index in best.indices.items()]
        aurocs[name] = auroc(np.concatenate(picked), order)
        both = overlap(best, largest, magnitude.infos)
        precisions[name] = Precision(both.intersection, both.a, both.chance)
        by_layer[name] = {n: _within(magnitude, n, index.numpy()) for n, index in best.indices.items()}
    correlations = {info.name: _spearman(_one(magnitude, info.name), _one(agreed, info.name)) for info in agreed.infos}
    return Foretold(_spearman(w, c), aurocs, precisions, correlations, by_layer)


def _within(magnitude: Scores, name: str, chosen: NDArray[Any]) -> Precision:
    """How many of the chosen weights of a parameter are among as many of its largest; of ties the first."""
    values, k = _one(magnitude, name), len(chosen)
    largest = np.argsort(-values, kind="stable")[:k]
    return Precision(len(np.intersect1d(largest, chosen)), k, k * k / len(values))


def auroc(positives: NDArray[Any], ordered: NDArray[Any]) -> float:
    """The chance that a positive outranks one of the others, ties half.

    Args:
        positives: (k,) scores.
        ordered: (n,) the scores of all, the positives among them, ascending.
    """
    k, n = len(positives), len(ordered)
    below = (np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")).sum() / 2
    return float((below - k * k / 2) / (k * (n - k)))


def _spearman(x: NDArray[Any], y: NDArray[Any]) -> float:
    if len(x) > SAMPLE:
        rows = np.random.default_rng(0).choice(len(x), SAMPLE, replace=False)
        x, y = x[rows], y[rows]
    return float(spearmanr(x, y).statistic)


def _one(scores: Scores, name: str) -> NDArray[Any]:
    values: NDArray[Any] = scores.values[name].reshape(-1).numpy()
    return values


def _flat(scores: Scores) -> NDArray[Any]:
    return np.concatenate([_one(scores, info.name) for info in scores.infos])

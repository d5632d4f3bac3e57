"""Arms that select other weights: by cross-fitted heads, by the decrease of a step, by counts of each parameter."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shpeft import equations
from shpeft.compare import Plan, Table
from shpeft.compare.cells import Cell
from shpeft.compare.running import runner
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.importance.cross_fitted_heads import fit_cross_fitted_heads
from shpeft.importance.scores import Scores, estimate_importance
from tests.conftest import assert_unchanged, state
from tests.helpers.comparison_tables import plan_of

CONVOLUTIONAL = {"name": "test_resnet", "weights": "random", "image_size": 32}
"""A backbone whose weights do not depend on the size of images."""

ARMS: dict[str, dict[str, Any]] = {
    "product": {"kind": "sparse", "expectation": "all"},
    "gradient": {"kind": "sparse", "expectation": "all", "score": "gradient"},
    "cross-fitted": {"kind": "sparse", "expectation": "all", "heads": "cross-fitted"},
    "shuffled": {"kind": "sparse", "expectation": "all", "heads": "cross-fitted", "gradients": "shuffled"},
    "step": {"kind": "sparse", "score": "step", "step_size": 0.5},
    "short step": {"kind": "sparse", "score": "step", "step_size": 1e-9},
    "counts": {"kind": "sparse", "expectation": "all", "count_exponent": 0.5},
}
CAPS = {"train": 6, "val": 4}


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Plan, ScoreCache, Tasks]:
    plan = plan_of(ARMS, images_per_class=CAPS)
    tasks = Tasks(plan, ".")
    return plan, ScoreCache(tasks, Table(tmp_path)), tasks


def flat(scores: Scores) -> torch.Tensor:
    return torch.cat([scores.values[info.name].reshape(-1) for info in scores.infos])


def test_cross_fitted_arms_take_gradients_under_heads_of_the_true_labels(
    scored: tuple[Plan, ScoreCache, Tasks],
) -> None:
    plan, score_cache, tasks = scored
    task = tasks.get("fundus", 0)
    before, train = state(task.backbone), task.data.train
    heads = fit_cross_fitted_heads(task.backbone, train, task.data.val, seed=0)
    order = np.random.default_rng(0).permutation(len(train))
    labels = {"cross-fitted": train.labels, "shuffled": tuple(train.labels[row] for row in order)}
    differing = list[torch.Tensor]()
    for name, of in labels.items():
        split = replace(train, labels=of)
        expected = estimate_importance(task.backbone, split, scope="matrices", head=heads, seed=0)
        scores = score_cache.scores(plan.arms[name], "fundus", 0)
        torch.testing.assert_close(flat(scores), flat(expected), rtol=1e-4, atol=1e-8)
        differing.append(flat(scores))
    differing.append(flat(score_cache.scores(plan.arms["product"], "fundus", 0)))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(differing[a], differing[b], rtol=1e-2)
    assert_unchanged(task.backbone, before)


def test_scores_of_images_of_another_size_are_others(tmp_path: Path) -> None:
    scores = []
    for sizes in ({}, {"fundus": 64}, {"fundus": 64}):
        plan = plan_of({"product": ARMS["product"]}, backbone=CONVOLUTIONAL, image_sizes=sizes)
        tasks = Tasks(plan, ".")
        tasks.get("fundus", 0)
        cache = ScoreCache(tasks, Table(tmp_path))
        scores.append(flat(cache.scores(plan.arms["product"], "fundus", 0)))
    assert not torch.allclose(scores[0], scores[1], rtol=1e-2)
    assert torch.equal(scores[1], scores[2])


def test_the_step_score_is_made_of_gradients_that_other_arms_share(
    scored: tuple[Plan, ScoreCache, Tasks], tmp_path: Path
) -> None:
    plan, score_cache, tasks = scored
    task = tasks.get("fundus", 0)
    score = partial(estimate_importance, task.backbone, task.data.train, scope="matrices", head=task.probe)
    mean, squares = flat(score("gradient", expectation="all")), flat(score("fisher", expectation="image"))
    assert bool((squares >= 0.99 * mean.square()).all())  # of the same images, but for rounding
    for name in ("step", "short step"):
        scores = score_cache.scores(plan.arms[name], "fundus", 0)
        expected = equations.step_decrease(mean, squares, float(plan.arms[name].step_size or 0))
        torch.testing.assert_close(flat(scores), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    score_cache.scores(plan.arms["gradient"], "fundus", 0)
    score_cache.scores(plan.arms["product"], "fundus", 0)
    assert len(list(tmp_path.rglob("scores-*.safetensors"))) == 2

    def selected(name: str) -> dict[str, list[int]]:
        support = score_cache.support(Cell(plan, "fundus", name, 40, 0))
        return {parameter: index.tolist() for parameter, index in support.indices.items()}

    assert selected("short step") == selected("gradient") != selected("step")


def test_counts_of_each_parameter_follow_its_scores(scored: tuple[Plan, ScoreCache, Tasks]) -> None:
    plan, score_cache, _ = scored
    scores = score_cache.scores(plan.arms["counts"], "fundus", 0)
    support = score_cache.support(Cell(plan, "fundus", "counts", 40, 0))
    assert support.k == 40
    sums = torch.stack([scores.values[info.name].double().sum() for info in scores.infos])
    exact = 40 * equations.count_shares(sums, 0.5)
    for info, part in zip(scores.infos, exact.tolist(), strict=True):
        index = support.indices.get(info.name, torch.empty(0, dtype=torch.int64))
        assert abs(len(index) - part) < 1
        assert torch.equal(index, equations.top_k(scores.values[info.name].reshape(-1), len(index)))
    assert score_cache.support(Cell(plan, "fundus", "product", 40, 0)).counts() != support.counts()


def test_cached_scores_keep_their_file(tmp_path: Path) -> None:
    """The name is a hash of what the scores depend on: a new setting, at its default, is no part of it."""
    plan = plan_of({"product": {"kind": "sparse", "images": 8}})
    score_cache = ScoreCache(Tasks(plan, "."), Table(tmp_path))
    score_cache.specific(plan.arms["product"], "fundus", 0, shuffled=True)
    assert [path.name for path in tmp_path.rglob("scores-*")] == ["scores-bb3e0d3b48de9e1f.safetensors"]


def test_each_of_them_is_trained_and_recorded(tmp_path: Path) -> None:
    arms = {name: ARMS[name] for name in ("shuffled", "step", "counts")}
    plan = plan_of(arms, images_per_class=CAPS, seeds=[0], training={"epochs": 1, "batch_size": 8})
    table = runner.run(plan, tmp_path, only=["fundus/*"])
    records = list(table.cells().values())
    assert [record["arm"] for record in records] == list(arms)
    assert all(record["status"] == "finished" and record["trained"] == 40 for record in records)

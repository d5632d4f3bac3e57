"""The scope 'all' offers norms, biases and LayerScale to sparse training, beside matrices, stem and embeddings."""

from pathlib import Path

import torch
from torch import nn

from shpeft.compare import Table
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell
from shpeft.compare.running import training
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.training.loop import finetune
from tests.conftest import assert_unchanged, state
from tests.helpers.comparison_tables import plan_of

SCALED = {"name": "test_vit2", "weights": "random", "image_size": 32, "model_args": ["init_values=0.1"]}
"""A backbone with LayerScale, large enough for the branches to matter."""


def test_norms_biases_and_layer_scale_are_candidates(tmp_path: Path) -> None:
    arm = {"kind": "sparse", "score": "random", "scope": "all", "budgets": [6000]}  # of all kinds some
    plan = plan_of({"all": arm, "matrices": arm | {"scope": "matrices"}}, backbone=SCALED)
    tasks = Tasks(plan, ".")
    task, cache = tasks.get("fundus", 0), ScoreCache(tasks, Table(tmp_path))
    backbone, before = task.backbone, state(task.backbone)
    modules = dict(backbone.module.named_modules())
    eligible = {info.name for info in backbone.weight_infos("all")}
    assert eligible == backbone.parameters.keys() - {"head.weight", "head.bias"}
    support = cache.support(Cell(plan, "fundus", "all", 6000, 0))
    holders = {name: modules[name.rpartition(".")[0]] for name in support.indices}
    assert any(isinstance(holder, nn.LayerNorm) for holder in holders.values())
    assert any(type(holder).__name__ == "LayerScale" for holder in holders.values())
    assert any(name.endswith("bias") and isinstance(holder, nn.Linear) for name, holder in holders.items())
    matrices = cache.support(Cell(plan, "fundus", "matrices", 6000, 0))
    assert all(name.endswith(".weight") and isinstance(modules[name[:-7]], nn.Linear) for name in matrices.indices)
    delta = SparseDelta.zeros(backbone, support, task.probe)
    list(finetune(backbone, delta, task.data, epochs=1, lr=1e-2, keep_start=False))
    assert (delta.values != 0).sum() > 5000
    with delta.applied(backbone):
        for name, p in backbone.parameters.items():
            if name in eligible:
                changed = (p.detach() != before[name]).reshape(-1).nonzero().squeeze(1)
                assert torch.isin(changed, support.indices.get(name, torch.empty(0, dtype=torch.int64))).all()
    assert_unchanged(backbone, before)
    trial, fitted = training.Trainings(Cell(plan, "fundus", "all", 6000, 0), task, cache).run(Rate(1e-2))
    assert fitted is not None
    assert fitted.trained == 6000
    assert not trial.diverged

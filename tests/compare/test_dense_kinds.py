"""Dense kinds of arm: which parameters they train, and that no other weight changes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shpeft import compare
from shpeft.backbones import Backbone
from shpeft.compare import Table
from shpeft.compare.arm import Rate
from shpeft.compare.cells import Cell
from shpeft.compare.running import training
from shpeft.compare.running.baselines import DENSE_KINDS, LAYER_SCALE, make_tuner
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Tasks
from shpeft.errors import SelectionError
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.comparison_tables import plan_of

SCALED = {"name": "test_vit2", "weights": "random", "image_size": 32}  # it has LayerScale

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="the optional package peft is not installed")


def trained_by(kind: str, backbone: dict[str, Any], folder: Path) -> tuple[Backbone, set[str], int]:
    """Return the pretrained backbone, the names of parameters that one training changed, and how many it counts."""
    plan = plan_of({"own": {"kind": kind}}, backbone=backbone, grids={kind: [1e-2, 1e-1]})
    tasks = Tasks(plan, ".")
    task = tasks.get("fundus", 0)
    before = state(task.backbone)
    cache = ScoreCache(tasks, Table(folder))
    _, fitted = training.Trainings(Cell(plan, "fundus", "own", None, 0), task, cache).run(Rate(1e-2))
    assert_unchanged(task.backbone, before)
    assert fitted is not None
    assert fitted.dense is not None
    tuned = fitted.dense.backbone.parameters
    changed = {
        info.name for info in task.backbone.weight_infos() if not torch.equal(tuned[info.name], before[info.name])
    }
    return task.backbone, changed, fitted.trained


@pytest.mark.parametrize("kind", ["ln-tune", "layerscale", "bitfit"])
def test_a_dense_kind_changes_its_parameters_alone(kind: str, tmp_path: Path) -> None:
    backbone, changed, count = trained_by(kind, SCALED, tmp_path)
    parts: dict[str, list[str]] = {"ln-tune": [], "layerscale": [], "bitfit": []}
    for name, module in backbone.module.named_modules():
        if isinstance(module, nn.LayerNorm):
            parts["ln-tune"] += [f"{name}.weight", f"{name}.bias"]
        if type(module).__name__ == "LayerScale":
            parts["layerscale"].append(f"{name}.gamma")
        if getattr(module, "bias", None) is not None and module is not backbone.head:
            parts["bitfit"].append(f"{name}.bias")
    expected = parts[kind]
    assert len(expected) >= 16  # two a block at least
    assert count == sum(backbone.parameters[name].numel() for name in expected)
    assert changed <= set(expected)
    assert len(changed) > 0.8 * len(expected)  # keys' biases, for one, have no gradient


def test_what_a_backbone_lacks_is_refused() -> None:
    plan = plan_of({"own": {"kind": "layerscale"}, "few": {"kind": "ln-tune", "scope": "matrices"}}, grids=GRIDS)
    task = Tasks(plan, ".").get("fundus", 0)
    with pytest.raises(
        SelectionError, match="trains the factors of LayerScale, and test_vit has none in the scope 'all'"
    ):
        make_tuner(plan.arms["own"], task, 0)
    with pytest.raises(SelectionError, match="biases of LayerNorm, and test_vit has none in the scope 'matrices'"):
        make_tuner(plan.arms["few"], task, 0)


GRIDS = {kind: [1e-3, 1e-2] for kind in ("layerscale", "ln-tune", "vera", "lora")}


@pytest.mark.parametrize(
    ("name", "is_factor"),
    [
        ("blocks.0.ls1.gamma", True),
        ("blocks.0.gamma_1", True),  # BEiT
        ("stages.0.blocks.1.gamma", True),  # ConvNeXt
        ("blocks.2.ls2", True),  # ResMLP
        ("blocks.0.norm1.weight", False),
        ("gamma_net.weight", False),
        ("blocks.0.attn.qkv.weight", False),
    ],
)
def test_layer_scale_is_recognized_by_name(name: str, is_factor: bool) -> None:
    assert DENSE_KINDS["layerscale"].trains(name, nn.Identity()) == is_factor


def test_layer_scale_s_factors_are_vectors() -> None:
    names = [info for info in tiny("test_vit2").weight_infos() if LAYER_SCALE.fullmatch(info.name)]
    assert names
    assert all(info.shape == (64,) for info in names)


def test_small_kinds_run_in_a_plan(tmp_path: Path) -> None:
    arms = {"norms": {"kind": "ln-tune"}, "scales": {"kind": "layerscale"}}
    table = compare.run(plan_of(arms, backbone=SCALED, grids=GRIDS, seeds=[0]), tmp_path)
    records = list(table.cells().values())
    assert [record["status"] for record in records] == ["finished"] * 4
    assert all(record["bytes"] > 4 * record["trained"] for record in records)


@needs_peft
def test_vera_trains_two_vectors_a_layer(tmp_path: Path) -> None:
    plan = plan_of({"vera": {"kind": "vera", "rank": 16}}, grids=GRIDS)
    tasks = Tasks(plan, ".")
    task = tasks.get("fundus", 0)
    before = state(task.backbone)
    cell, cache = Cell(plan, "fundus", "vera", None, 0), ScoreCache(tasks, Table(tmp_path))
    _, fitted = training.Trainings(cell, task, cache).run(Rate(1e-1))
    _, again = training.Trainings(cell, task, cache).run(Rate(1e-1))
    assert fitted is not None
    assert again is not None
    first, second = (model.predict(task.data.val).probabilities for model in (fitted, again))
    layers = [info for info in task.backbone.weight_infos("matrices") if "qkv" in info.name]
    assert fitted.trained == sum(info.shape[0] + 16 for info in layers)
    assert fitted.bytes < 4 * (fitted.trained + task.backbone.head_weight_count) + 4096  # without random matrices
    assert_unchanged(task.backbone, before)
    frozen = training.probe_model(task).predict(task.data.val).probabilities
    assert np.abs(first - frozen).max() > 1e-4
    assert np.array_equal(first, second)  # the matrices follow from the seed


@needs_peft
def test_vera_begins_as_the_pretrained_model() -> None:
    plan = plan_of({"vera": {"kind": "vera"}}, grids=GRIDS)
    task = Tasks(plan, ".").get("fundus", 0)
    tuner = make_tuner(plan.arms["vera"], task, 0)
    image = torch.randn(2, *task.backbone.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), task.probe.applied(task.backbone):
        torch.testing.assert_close(tuner.backbone(image), task.backbone(image), rtol=0, atol=1e-6)


def test_full_fine_tuning_may_begin_with_a_random_head() -> None:
    arms = {"probe": {"kind": "full"}, "random": {"kind": "full", "initial_head": "random"}}
    plan = plan_of(arms)
    task = Tasks(plan, ".").get("fundus", 0)
    before = state(task.backbone)
    probed = make_tuner(plan.arms["probe"], task, 0).backbone.head
    heads = [make_tuner(plan.arms["random"], task, seed).backbone.head for seed in (0, 0, 1)]
    assert torch.equal(probed.weight, task.probe.weight)
    assert not any(torch.equal(head.weight, task.probe.weight) for head in heads)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert 0.01 < float(heads[0].weight.detach().std()) < 0.03
    assert not heads[0].bias.detach().any()
    assert_unchanged(task.backbone, before)

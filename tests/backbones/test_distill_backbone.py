"""The script that distills a small backbone runs and resumes, and its file describes its model."""

import argparse
import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from safetensors import safe_open

from shpeft.backbones import create_backbone
from shpeft.backbones.int4 import rounded, unpack
from shpeft.errors import WeightsUnavailable

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "distill_backbone.py"
KEYS = {
    "format",
    "architecture",
    "kwargs",
    "mean",
    "std",
    "interpolation",
    "image_size",
    "description",
    "licence",
}


def remake(path: Path) -> tuple[Any, dict[str, str], dict[str, torch.Tensor]]:
    """Return the model that a file describes, its metadata and its weights, loaded strictly."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = unpack({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (it is no dictionary)
    model = timm.create_model(metadata["architecture"], num_classes=0, **json.loads(metadata["kwargs"]))
    model.load_state_dict(weights)
    return model.eval(), metadata, weights


def test_the_embedded_backbone_describes_its_model() -> None:
    path = ROOT / "assets" / "embedded_vit.safetensors"
    model, metadata, weights = remake(path)
    assert set(metadata) == KEYS
    assert metadata["format"] == "shpeft.backbone/1"
    assert path.stat().st_size < 8e6
    assert all(tensor.isfinite().all() for tensor in weights.values())
    size = int(metadata["image_size"])
    with torch.no_grad():
        features = model(torch.randn(2, 3, size, size))
    assert features.shape == (2, model.num_features)
    assert (features[0] - features[1]).abs().max() > 0


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return importlib.import_module(SCRIPT.stem)


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's architecture with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    model = timm.create_model("vit_small_patch14_dinov2", img_size=224, num_classes=0, init_values=1.0)
    safetensors.torch.save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, path)
    return path


@pytest.mark.slow
def test_the_script_runs_and_its_file_is_a_backbone(teacher_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    out = tmp_path / "small.safetensors"
    options = ["--teacher", teacher_file, "--images", f"{tmp_path / 'photos'}:2", "--phantoms", "2"]
    options += ["--work", tmp_path / "work", "--minutes", "0.02", "--batch", "2", "--depth", "1", "--out", out]
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "16 views" in done.stdout  # two of each photograph, two phantoms of each of six kinds
    model, metadata, weights = remake(out)
    assert set(metadata) == KEYS
    backbone = create_backbone("embedded", classes=("a", "b"), weights=out)
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(backbone.parameters[name], weights[name])
    assert torch.equal(backbone.parameters[name], rounded(weights[name]))
    assert backbone.image_size == 112
    images = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(backbone.features(images), model(images))


def test_a_file_that_does_not_describe_itself_is_refused(teacher_file: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"teacher\.safetensors does not describe its model"):
        create_backbone("embedded", classes=("a", "b"), weights=teacher_file)


def test_views_are_reproducible_and_the_first_is_the_whole_image(script: Any, tmp_path: Path) -> None:
    views = sys.modules[script.make_views.__module__]
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    job = str(tmp_path / "a.png")
    assert np.array_equal(views.view((job, 0)), pixels)
    assert np.array_equal(views.view((job, 3)), views.view((job, 3)))
    assert not np.array_equal(views.view((job, 2)), views.view((job, 3)))


@torch.no_grad()
def test_an_unrounded_student_is_the_teachers_first_blocks(script: Any, teacher_file: Path) -> None:
    teacher = script.load_teacher(teacher_file)
    student = script.make_student(teacher, depth=2).eval()
    images = torch.randn(1, 3, 112, 112)
    expected = script.tokens_of(teacher, images, 2)
    assert torch.equal(script.tokens_of(student, images, 2), expected)
    torch.testing.assert_close(student(images), student.fc_norm(expected[:, 1:].mean(1)))


def test_training_sees_the_rounded_weights_and_passes_the_gradient_through(script: Any, teacher_file: Path) -> None:
    student = script.make_student(script.load_teacher(teacher_file), depth=1)
    layer = student.blocks[0].mlp.fc1
    before = layer.weight.detach().clone()
    script.round_matrices(student)
    torch.testing.assert_close(layer.weight, rounded(before), rtol=0, atol=1e-6)  # w + (rounded - w), in float32
    layer.weight.sum().backward()
    assert torch.equal(layer.parametrizations.weight.original.grad, torch.ones_like(before))
    assert set(script.plain_state(student)) == set(
        script.make_student(script.load_teacher(teacher_file), 1).state_dict()
    )


@pytest.mark.slow
def test_training_learns_and_resumes(
    script: Any, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(script.time, "process_time", lambda: next(clock) / 8)  # a step takes 1/8 s, however busy
    monkeypatch.setattr(script, "SAVE_SECONDS", 0)
    torch.manual_seed(0)
    teacher = script.load_teacher(teacher_file)
    views = np.random.default_rng(0).integers(0, 255, (8, 112, 112, 3), dtype=np.uint8)
    tokens = script.ask_teacher(teacher, views, tmp_path, 1)
    options = argparse.Namespace(batch=2, lr=1e-3, seed=0, depth=1)

    def student() -> Any:  # the teacher's first block, with noise added
        made = script.make_student(teacher, 1)
        with torch.no_grad():
            for p in made.parameters():
                p += 0.02 * torch.randn(p.shape)
        script.round_matrices(made)
        return made

    script.train(student(), views, tokens, tmp_path, 0.05, options)
    losses = [
        float(line.split("loss ")[1].split(" ")[0]) for line in capsys.readouterr().out.splitlines() if "loss" in line
    ]
    assert len(losses) == 23
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    seen = script.train(student(), views, tokens, tmp_path, 0.06, options)
    said = capsys.readouterr().out
    assert f"resuming at step {len(losses)}" in said
    assert seen // 2 > len(losses)

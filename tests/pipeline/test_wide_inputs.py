"""Runs on inputs that are no squares, from the configuration to the exported model."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import yaml
from PIL import Image

import shpeft
from shpeft.delta.file import read_header
from shpeft.errors import DeltaFormat
from shpeft.explanation.saliency import supported_methods
from shpeft.pipeline import export_model
from shpeft.pipeline.cost_estimate import estimate_cost
from shpeft.runs import RunFolder
from tests.pipeline.conftest import carry_out, tiny

SIZES = {"test_vit": "32x64", "test_convnext": "64x32"}


@pytest.fixture(scope="module", params=SIZES)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    name = request.param
    backbone = {"name": name, "image_size": SIZES[name]}
    config = tiny(backbone=backbone, training={"epochs": 1, "augment": "light", "modality": "dermoscopy"})
    return RunFolder.open(carry_out(tmp_path_factory.mktemp("runs") / name, config).path)


def data_of(run: RunFolder) -> Any:
    return shpeft.load_dataset(**run.config.dataset.model_dump())


def test_the_size_is_written_as_height_x_width(wide: RunFolder) -> None:
    size = SIZES[wide.config.backbone.name]
    assert yaml.safe_load((wide.path / "config.yaml").read_text())["backbone"]["image_size"] == size
    header = read_header(wide.delta_path)
    assert (header["image_size"], header["transform"]["size"]) == (size, size)
    card = (wide.path / "README.md").read_text()
    assert f"{size} px" in card
    assert f'image_size="{size}"' in card


def test_a_loaded_run_diagnoses_explains_and_attributes(wide: RunFolder) -> None:
    shape = tuple(map(int, SIZES[wide.config.backbone.name].split("x")))
    image = data_of(wide).test.image(0)
    with shpeft.load_run(wide, "cpu") as loaded:
        assert loaded.backbone.input_shape == (3, *shape)
        diagnosis = shpeft.diagnose(
            loaded.backbone, image, reliability=loaded.reliability, ood_detector=loaded.ood_detector
        )
        expected = wide.predictions.test().probabilities[0].tolist()
        assert diagnosis.probabilities == pytest.approx(expected, abs=1e-6)
        assert diagnosis.image_size == image.size
        inputs = loaded.backbone.transform(image)
        for method in supported_methods(loaded.backbone):
            assert shpeft.explain(loaded.backbone, inputs, 0, method).map.shape == shape
        with loaded.pretrained() as base:
            assert shpeft.attribute_weights(base, loaded.delta, inputs, 0).converged
            with pytest.raises(shpeft.ShpeftError, match=rf"shape \(1, 3, {shape[0]}, {shape[1]}\)"):
                shpeft.attribute_weights(base, loaded.delta, inputs.transpose(2, 3), 0)


def test_timm_opens_the_exported_model(wide: RunFolder, tmp_path: Path) -> None:
    exported = export_model(wide, "timm", tmp_path / "model")
    assert exported.difference == 0
    plain = timm.create_model(f"local-dir:{exported.path}", pretrained=True).eval()
    settings = timm.data.resolve_data_config({}, model=plain)
    image = data_of(wide).test.image(0)
    inputs = timm.data.create_transform(**settings)(image)[None]
    with shpeft.load_run(wide, "cpu") as loaded, torch.no_grad():
        assert inputs.shape[1:] == loaded.backbone.input_shape
        own = loaded.backbone(loaded.backbone.transform(image))
        assert torch.allclose(plain(loaded.backbone.transform(image)), own, atol=0, rtol=0)
        assert torch.allclose(plain(inputs), own, atol=1e-2)


def test_a_report_names_both_sides(wide: RunFolder) -> None:
    image: Image.Image = data_of(wide).test.image(0)
    height, width = SIZES[wide.config.backbone.name].split("x")
    with shpeft.load_run(wide, "cpu") as loaded:
        diagnosis = shpeft.diagnose(loaded.backbone, image, method="saliency", reliability=loaded.reliability)
    text = shpeft.report(diagnosis, image, wide)
    assert f"The model receives {width} × {height}." in text
    assert f"input {height}x{width} pixels (height x width)" in text


def test_frozen_blocks_run_once_and_change_nothing(tmp_path: Path) -> None:
    settings = {"backbone": {"image_size": "32x64"}, "selection": {"scope": "last:1"}}
    deltas = [
        carry_out(tmp_path / str(cache), tiny(**settings, training={"epochs": 1, "cache": cache}))
        for cache in (True, False)
    ]
    with shpeft.load_run(deltas[0], "cpu") as cached, shpeft.load_run(deltas[1], "cpu") as other:
        assert torch.allclose(cached.delta.values, other.delta.values, atol=1e-6)


def test_the_cost_is_estimated() -> None:
    square, wide = (estimate_cost(tiny(backbone={"image_size": size}), (20, 8, 8)) for size in (32, "32x256"))
    assert wide.memory > square.memory


@pytest.mark.parametrize("size", ["64x32x", "<b>", "32X64", "64x64", 0, [32, 64], True])
def test_a_delta_file_of_another_size_is_refused(size: Any, wide: RunFolder, tmp_path: Path) -> None:
    with safetensors.safe_open(wide.delta_path, "pt") as file:
        metadata = json.loads(file.metadata()["shpeft"]) | {"image_size": size}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    path = tmp_path / "delta.safetensors"
    safetensors.torch.save_file(tensors, path, {"shpeft": json.dumps(metadata)})
    with pytest.raises(DeltaFormat):
        read_header(path)

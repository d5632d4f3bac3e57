"""Exports: timm without shpeft gives the same bits, programs give the run's logits, a shared folder diagnoses."""

import copy
import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from shpeft.backbones import Backbone, create_backbone, load_timm, save_timm
from shpeft.config.schema import RunConfig
from shpeft.delta.file import save_delta
from shpeft.errors import ConfigError, RunError, ShpeftError, WeightsUnavailable
from shpeft.images import InputTransform
from shpeft.pipeline import export_model, load_run, run
from shpeft.pipeline.peft_format import run_peft
from shpeft.runs import RunFolder
from shpeft.runs.shared import open_shared
from tests.helpers.app_pages import TINY
from tests.helpers.command_line import shpeft

PEFT = importlib.util.find_spec("peft") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of a tiny model."""
    config = RunConfig.parse(TINY)
    folder = RunFolder.create(tmp_path_factory.mktemp("export") / "first", config)
    run(config, folder)
    return folder


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def test_timm_alone_gives_the_same_logits_to_the_bit(folder: RunFolder, tmp_path: Path, picture: Image.Image) -> None:
    written = export_model(folder, "timm", tmp_path / "merged")
    assert written.difference == 0
    assert sorted(path.name for path in written.path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    plain = timm.create_model(f"local-dir:{written.path}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=plain))
    configuration: Any = plain.pretrained_cfg
    assert configuration["label_names"] == list(folder.predictions.test().classes)
    with load_run(folder, "cpu") as loaded, torch.no_grad():
        inputs = loaded.backbone.transform(picture)
        assert torch.equal(plain(inputs), loaded.backbone(inputs))
        np.testing.assert_allclose(transform(picture)[None], inputs, atol=1e-6)  # the whole image, squashed


def test_the_embedded_backbone_is_rebuilt_by_timm(tmp_path: Path) -> None:
    backbone = create_backbone(classes=("healthy", "ill"), image_size=56)
    nn.init.normal_(backbone.head.weight)
    save_timm(backbone, tmp_path / "saved")
    inputs = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        assert torch.equal(load_timm(tmp_path / "saved")(inputs), backbone(inputs))


def test_a_program_of_pytorch_gives_the_logits_of_any_batch(folder: RunFolder, tmp_path: Path) -> None:
    written = export_model(folder, "torch-export", tmp_path / "model.pt2")
    extra = {"shpeft.json": ""}
    program = torch.export.load(written.path, extra_files=extra).module()
    description = json.loads(extra["shpeft.json"])
    assert description["classes"] == list(folder.predictions.test().classes)
    assert "Research use only" in description["notice"]
    with load_run(folder, "cpu") as loaded, torch.no_grad():
        assert InputTransform.from_dict(description["transform"]) == loaded.backbone.transform
        inputs = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(program(inputs), loaded.backbone(inputs), rtol=1e-4, atol=1e-5)


def test_onnx_without_its_extra_names_the_extra(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "onnxscript" else find_spec(name, *rest)
    )
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ShpeftError, match=r"needs .*onnxscript.*pip install 'shpeft\[onnx\]'"):
        export_model(folder, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx_gives_the_logits_of_any_batch(folder: RunFolder, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    written = export_model(folder, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["shpeft"])["classes"] == list(folder.predictions.test().classes)
    with load_run(folder, "cpu") as loaded, torch.no_grad():
        inputs = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        (logits,) = session.run(None, {"images": inputs.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), loaded.backbone(inputs), rtol=1e-3, atol=1e-4)


def test_a_shared_folder_diagnoses_and_holds_no_case(folder: RunFolder, tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "image.png")
    written = export_model(folder, "hub", tmp_path / "shared")
    assert written.difference is None
    names = {path.name for path in written.path.iterdir()}
    assert {"README.md", "config.yaml", "delta.safetensors", "trust.json"} <= names
    assert not names & {"predictions.csv", "predictions_val.csv", "notes.md", "similar.safetensors"}
    shared = shpeft("diagnose", f"local-dir:{written.path}", tmp_path / "image.png", "--json")
    own = shpeft("diagnose", folder.path, tmp_path / "image.png", "--json")
    a, b = (json.loads(result.stdout)[0]["probabilities"] for result in (shared, own))
    assert a == b


def test_what_exists_is_not_replaced_and_what_is_unknown_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="there exists"):
        export_model(folder, "hub", tmp_path / "there")
    with pytest.raises(ConfigError, match=r"no export 'onx'.*onnx"):
        export_model(folder, "onx", tmp_path / "new")


def test_a_result_with_other_logits_is_refused_and_nothing_is_left(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 3)

    monkeypatch.setattr("shpeft.pipeline.export.load_timm", lambda path: Other())
    with pytest.raises(ShpeftError, match=r"its logits differ by up to .* Export to torch-export"):
        export_model(folder, "timm", tmp_path / "merged")

    def broken(path: Path) -> Backbone:
        raise TypeError("unexpected argument")

    monkeypatch.setattr("shpeft.pipeline.export.load_timm", broken)
    with pytest.raises(ShpeftError, match=r"cannot build test_vit .*unexpected argument"):
        export_model(folder, "timm", tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_says_how_exact_it_is(folder: RunFolder, tmp_path: Path) -> None:
    result = shpeft("export", folder.path, "--to", "timm", "--out", tmp_path / "merged")
    assert "Largest difference of its logits from the run's own: 0." in result.stdout
    adapter = shpeft("export", folder.path, "--to", "peft", "--out", tmp_path / "adapter", code=0 if PEFT else 2)
    assert ("logits" in adapter.stdout) == PEFT


@pytest.fixture(scope="module")
def other(folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of the same base whose support is another one, larger and random."""
    config = RunConfig.parse(TINY | {"selection": {"budget": 300, "score": "random"}})
    other = RunFolder.create(tmp_path_factory.mktemp("export") / "other", config)
    run(config, other)
    for own in (folder, other):  # a short training may have kept the start
        with load_run(own, "cpu") as loaded:
            generator = torch.Generator().manual_seed(loaded.delta.k)
            moved = replace(loaded.delta, values=torch.randn(loaded.delta.k, generator=generator) * 0.3)
        save_delta(moved, own.delta_path)
    return other


@pytest.mark.slow
def test_values_patched_into_a_program_are_those_of_a_new_export(
    folder: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    first = export_model(folder, "torch-export", tmp_path / "first.pt2").path
    new = torch.export.load(export_model(other, "torch-export", tmp_path / "new.pt2").path)
    patched_path = export_model(other, "torch-export", tmp_path / "patched.pt2", program=first).path
    patched = torch.export.load(patched_path)
    assert new.state_dict.keys() == patched.state_dict.keys()
    assert all(torch.equal(values, patched.state_dict[name]) for name, values in new.state_dict.items())
    inputs = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(new.module()(inputs), patched.module()(inputs))
    back = torch.export.load(export_model(folder, "torch-export", tmp_path / "back.pt2", program=patched_path).path)
    assert all(torch.equal(v, back.state_dict[name]) for name, v in torch.export.load(first).state_dict.items())


def test_values_patched_into_onnx_are_those_of_a_new_export(
    folder: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="ONNX is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    first = export_model(folder, "onnx", tmp_path / "first.onnx").path
    paths = [
        export_model(other, "onnx", tmp_path / "new.onnx").path,
        export_model(other, "onnx", tmp_path / "patched.onnx", program=first).path,
        first,
    ]
    inputs = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    new, patched, before = (
        runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"images": inputs})[0]
        for path in paths
    )
    assert np.array_equal(new, patched)
    assert abs(new - before).max() > 0.01


def test_programs_of_another_base_or_without_a_description_are_refused(
    folder: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    program = export_model(folder, "torch-export", tmp_path / "first.pt2").path
    config = RunConfig.parse(TINY | {"seed": 1})
    foreign = RunFolder.create(tmp_path / "foreign", config)
    run(config, foreign)
    with pytest.raises(ConfigError, match="is of other base weights"):
        export_model(foreign, "torch-export", tmp_path / "no.pt2", program=program)
    extra = {"shpeft.json": "{}"}
    torch.export.save(torch.export.load(program), tmp_path / "plain.pt2", extra_files=extra)
    with pytest.raises(ConfigError, match="does not say what can be replaced"):
        export_model(other, "torch-export", tmp_path / "no.pt2", program=tmp_path / "plain.pt2")
    with pytest.raises(ConfigError, match="Only programs are patched"):
        export_model(other, "timm", tmp_path / "no", program=program)
    assert not (tmp_path / "no.pt2").exists()


def test_peft_opens_the_adapter_with_the_same_bits(folder: RunFolder, other: RunFolder, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    for own in (folder, other):
        path = export_model(own, "peft", tmp_path / own.name).path
        with load_run(own, "cpu") as loaded, torch.no_grad():
            inputs = loaded.backbone.transform.normalize(torch.full((2, 3, 32, 32), 90, dtype=torch.uint8))
            expected = loaded.backbone(inputs)
            with loaded.pretrained() as pretrained:
                base = copy.deepcopy(pretrained.module)
                before = base(inputs)
        model = peft.PeftModel.from_pretrained(base, str(path)).eval()
        with torch.no_grad():
            assert torch.equal(run_peft(model, inputs), expected)
        assert not torch.equal(before, expected)
        assert "Research use only" in (path / "README.md").read_text()


def test_weights_that_peft_cannot_change_are_named(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    config = RunConfig.parse(TINY | {"selection": {"budget": 4000, "score": "random", "scope": "all"}})
    everything = RunFolder.create(tmp_path / "all", config)
    run(config, everything)
    with pytest.raises(ShpeftError, match="SHiRA changes matrices of linear layers alone"):
        export_model(everything, "peft", tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_run_of_the_model_hub_diagnoses_from_the_cache(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "cache" / "models--owner--ultrasound"
    shared = export_model(folder, "hub", tmp_path / "shared").path
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0" * 40)
    shutil.copytree(shared, hub / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    opened = open_shared("hf-hub:owner/ultrasound")
    assert opened.name == "owner--ultrasound"
    with load_run(opened, "cpu") as loaded, load_run(folder, "cpu") as own:
        assert torch.equal(loaded.delta.values, own.delta.values)
        assert loaded.reliability == own.reliability
    with pytest.raises(WeightsUnavailable, match="owner/other is not in the cache of this computer"):
        open_shared("hf-hub:owner/other")
    (hub / "snapshots" / ("0" * 40) / "delta.safetensors").unlink()
    with pytest.raises(RunError, match="holds no run of shpeft"):
        open_shared("hf-hub:owner/ultrasound")

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open

from shpeft.backbones.packing import unpack

ROOT = Path(__file__).resolve().parents[1]
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


def remake(path):
    """The model that a file describes, with its weights loaded strictly."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        weights = unpack({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (it is no dictionary)
    model = timm.create_model(metadata["architecture"], num_classes=0, **json.loads(metadata["kwargs"]))
    model.load_state_dict(weights)
    return model.eval(), metadata, weights


def test_the_embedded_backbone_says_how_to_make_it_again():
    path = ROOT / "assets" / "embedded_vit.safetensors"
    model, metadata, weights = remake(path)
    assert set(metadata) == KEYS
    assert metadata["format"] == "shpeft.backbone/1"
    assert path.stat().st_size < 8e6
    assert all(tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in weights.values())
    size = int(metadata["image_size"])
    with torch.no_grad():
        features = model(torch.randn(2, 3, size, size))
    assert features.shape == (2, model.num_features)
    assert (features[0] - features[1]).abs().max() > 0


@pytest.mark.timeout(120)
def test_the_script_that_makes_it_runs(tmp_path):
    out = tmp_path / "tiny.safetensors"
    options = ["--minutes", "0.01", "--images", "4", "--batch", "2", "--out", str(out)]
    script = ROOT / "tools" / "pretrain_backbone.py"
    done = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 healthy phantoms of fundus, ultrasound" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    remake(out)

"""Small things that many tests need; nothing here reaches a network."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Processes that test side by side share the processors: more threads than processors wait for each other, and small
# models take four times as long.
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)

import numpy as np
import pytest
import torch
from PIL import Image

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.datasets.base import Split

from .commands import TINY, shpeft

SHARED = Path(__file__).resolve().parents[2] / "shared"
CLASSES = ("left", "right", "both")


class Stripes:
    """Images whose class can be seen: a bright bar on the left, on the right, or on both sides, in noise."""

    def __init__(self, part: int, labels: tuple[int, ...]):
        self.part, self.labels = part, labels

    def image(self, index: int) -> Image.Image:
        rng = np.random.default_rng([self.part, index])
        pixels = rng.integers(0, 120, (32, 32, 3))
        if self.labels[index] in (0, 2):
            pixels[8:24, 4:10] += 90
        if self.labels[index] in (1, 2):
            pixels[8:24, 22:28] += 90
        return Image.fromarray(pixels.astype(np.uint8))

    def mask(self, index: int) -> None:
        return None


def stripes(part: int, count: int, name: str) -> Split:
    labels = tuple(i % 3 for i in range(count))
    ids = tuple(f"stripes-{part}-{i}" for i in range(count))
    return Split(name, CLASSES, labels, ids, ids, Stripes(part, labels))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """The cache of images is not the user's; processes that tests start have it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHPEFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data() -> Dataset:
    """60 training, 30 validation and 45 test images of 32 px in three classes."""
    return Dataset("stripes", stripes(0, 60, "train"), stripes(1, 30, "val"), stripes(2, 45, "test"), CLASSES, {})


@pytest.fixture(scope="session")
def phantom() -> Dataset:
    """A few phantoms, small."""
    return load_dataset("phantom:fundus?n=36&size=64", seed=0)


def tiny(name: str = "test_vit", *, classes: tuple[str, ...] = CLASSES, dtype: torch.dtype = torch.float32) -> Backbone:
    """A small timm model with random weights, asked for."""
    backbone = create_backbone(name, classes=classes, weights="random", image_size=32)
    backbone.module.to(dtype)
    return backbone


@pytest.fixture
def vit() -> Backbone:
    return tiny()


def state(backbone: Backbone) -> dict[str, torch.Tensor]:
    """A copy of everything that the model holds."""
    return {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}


def assert_unchanged(backbone: Backbone, before: dict[str, torch.Tensor]) -> None:
    """Bit for bit, zeros' signs included; no gradient and no hook left behind."""
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), before[name].reshape(-1).view(torch.uint8)), name
    assert all(p.grad is None for p in backbone.module.parameters())
    for module in backbone.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for p in backbone.module.parameters():
        assert not getattr(p, "_post_accumulate_grad_hooks", None)


def shared(*parts: str) -> Path:
    """A file or folder of the shared test material; the test is skipped where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared test material {'/'.join(parts)} is not on this machine")
    return path


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    (place / "tiny.yaml").write_text(TINY)
    shpeft("finetune", "--config", place / "tiny.yaml", "--out", place / "busi")
    return place / "busi"


@pytest.fixture
def tiny_yaml(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"

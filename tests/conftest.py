"""Fixtures and helpers that many tests need; nothing here reaches a network."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Test processes share the processors: with more threads than processors, small models take four times as long.
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a thread that waits by spinning takes the other process's time

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from shpeft.backbones import Backbone, create_backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.datasets.base import Split
from tests.helpers.command_line import TINY, shpeft

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
hypothesis.settings.register_profile("dev", max_examples=25, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))

SHARED = Path(__file__).resolve().parents[2] / "shared"
CLASSES = ("left", "right", "both")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "Scheduling | None":
    """Let one worker run all tests of the browser that need a trained run, so that there is one."""
    from tests.helpers.scheduling import FilesTogether

    return FilesTogether(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, which would at the end leave a processor unused; repeat a browser's test that fails.

    The summary names what was repeated.
    """
    longest = ("tests/browser/", "tests/test_benchmarks.py", "tests/compare/test_running.py", "tests/jobs/")
    items.sort(
        key=lambda item: next((i for i, name in enumerate(longest) if item.nodeid.startswith(name)), len(longest))
    )
    for item in items:
        if item.get_closest_marker("browser"):  # a browser, a server and a training share two processors
            item.add_marker(pytest.mark.flaky(reruns=1))


class Stripes:
    """Images of noise whose class is visible: a bright bar on the left, on the right, or on both sides."""

    def __init__(self, part: int, labels: tuple[int, ...]) -> None:
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
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests, and the processes that they start, out of the user's image cache and runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHPEFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def data() -> Dataset:
    """60 training, 30 validation and 45 test images of 32 px in three classes."""
    return Dataset("stripes", stripes(0, 60, "train"), stripes(1, 30, "val"), stripes(2, 45, "test"), CLASSES, {})


@pytest.fixture(scope="session")
def phantom() -> Dataset:
    """36 phantoms of 64 px."""
    return load_dataset("phantom:fundus?n=36&size=64", seed=0)


def tiny(name: str = "test_vit", *, classes: tuple[str, ...] = CLASSES, dtype: torch.dtype = torch.float32) -> Backbone:
    """Create a small timm model with random weights."""
    backbone = create_backbone(name, classes=classes, weights="random", image_size=32)
    backbone.module.to(dtype)
    return backbone


@pytest.fixture
def vit() -> Backbone:
    return tiny()


def state(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Return a copy of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}


def assert_unchanged(backbone: Backbone, before: dict[str, torch.Tensor]) -> None:
    """Check that a model is the same bit for bit, signs of zeros included, without gradients and hooks."""
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), before[name].reshape(-1).view(torch.uint8)), name
    assert all(p.grad is None for p in backbone.module.parameters())
    for module in backbone.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for p in backbone.module.parameters():
        assert not getattr(p, "_post_accumulate_grad_hooks", None)


def shared(*parts: str) -> Path:
    """Return a path in the shared test material, or skip the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared test material {'/'.join(parts)} is not on this machine")
    return path


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(TINY)
    shpeft("finetune", "--config", folder / "tiny.yaml", "--out", folder / "busi")
    return folder / "busi"


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """Launch a browser, or skip the tests."""
    from shpeft.support.headless_browser import find_browser
    from tests.browser.driver import QUIET

    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=find_browser(), args=QUIET)
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield browser
        browser.close()

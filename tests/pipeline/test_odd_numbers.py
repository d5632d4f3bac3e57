"""Sets that are as small, as flat or as uneven as they come: a run ends with finite numbers or a sentence."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shpeft.config import RunConfig
from shpeft.errors import EmptyDataset, ShpeftError
from shpeft.pipeline import run
from shpeft.runs import RunFolder
from tests.helpers.present import single_label
from tests.helpers.run_metrics import metrics_of

Draw = Callable[[np.random.Generator, int], np.ndarray]


def folder_of(root: Path, counts: dict[str, int], draw: Draw) -> Path:
    """Write images into folders such as ``train/ill``."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(draw(rng, number)).save(root / name / f"{index}.png")
    return root


def noise(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return an image of noise."""
    return rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)


def constant(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return an image of one value, another for each class and split."""
    return np.full((32, 32, 3), 17 * number + int(rng.integers(0, 9)), np.uint8)


def tiny(source: Path, **training: Any) -> RunConfig:
    """Return the configuration of a short run."""
    raw = {
        "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        "dataset": {"source": str(source)},
        "selection": {"budget": 40, "images": 8},
        "training": {"epochs": 1, "batch_size": 8} | training,
        "device": "cpu",
    }
    return RunConfig.parse(raw)


def counts(train: int, val: int, test: int) -> dict[str, int]:
    return {
        f"{split}/{name}": number
        for split, number in (("train", train), ("val", val), ("test", test))
        for name in ("ill", "well")
    }


def numbers(value: Any) -> list[float]:
    """Return all numbers of a document."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize(
    ("sizes", "draw", "training"),
    [
        (counts(1, 1, 1), noise, {}),
        (counts(6, 4, 4), constant, {}),
        (counts(3, 2, 2), noise, {"batch_size": 512}),
        (counts(20, 1, 1) | {"train/ill": 1}, noise, {}),
    ],
    ids=["one image a class", "constant images", "a batch larger than the set", "one image of the rarer class"],
)
def test_a_run_ends_with_finite_numbers(
    tmp_path: Path, sizes: dict[str, int], draw: Draw, training: dict[str, Any]
) -> None:
    config = tiny(folder_of(tmp_path / "data", sizes, draw), **training)
    folder = RunFolder.create(tmp_path / "run", config)
    run(config, folder)
    metrics = metrics_of(folder)
    assert all(math.isfinite(number) for number in numbers(metrics))
    assert json.loads((folder.path / "metrics.json").read_text()) == metrics
    assert math.isfinite(single_label(folder.reliability.read()).calibration.temperature)


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    config = tiny(folder_of(tmp_path / "data", counts(4, 2, 2) | {"train/ill": 0}, noise))
    with pytest.raises(ShpeftError) as raised:
        run(config, RunFolder.create(tmp_path / "run", config))
    assert isinstance(raised.value, EmptyDataset) or "ill" in str(raised.value)

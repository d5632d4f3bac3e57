"""Files of arrays as MedMNIST publishes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft.datasets import load_dataset
from shpeft.errors import DatasetError, EmptyDataset


def arrays(shape: tuple[int, ...] = (9, 9), **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    contents = {}
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        contents[f"{split}_images"] = rng.integers(0, 255, (count, *shape), dtype=np.uint8)
        contents[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    return contents | changes


def saved(folder: Path, contents: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(folder / "cells.npz", **contents)  # type: ignore[arg-type]
    return folder / "cells.npz"


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 3)])
def test_gray_and_color_arrays(shape: tuple[int, ...], tmp_path: Path) -> None:
    contents = arrays(shape)
    data = load_dataset(saved(tmp_path, contents))
    assert (data.name, data.classes, [len(split) for split in data.splits]) == ("cells", ("0", "1"), [8, 4, 4])
    pixels = np.asarray(data.test.image(2))
    expected = contents["test_images"][2]
    assert np.array_equal(pixels, expected if len(shape) == 3 else np.stack([expected] * 3, -1))
    assert data.fingerprint == load_dataset(tmp_path / "cells.npz").fingerprint


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"test_images": np.zeros((4, 9, 9), np.float32)}, DatasetError, "8-bit images"),
        ({"test_images": np.zeros((4, 9, 9, 2), np.uint8)}, DatasetError, "8-bit images"),
        ({"val_labels": np.zeros((4, 14), np.uint8)}, DatasetError, "one label each"),
        ({"val_labels": np.full((4, 1), 7, np.uint8)}, DatasetError, r"outside 0\.\.1"),
        ({"test_labels": np.zeros((4, 1), np.uint8)}, EmptyDataset, "class 1 of cells.npz has no image in test"),
        ({"train_labels": np.zeros((8, 1), np.uint8)}, EmptyDataset, "at least two classes"),
        ({"train_labels": np.array([["a"]] * 8, dtype=object)}, DatasetError, "cannot be read"),
    ],
)
def test_faulty_arrays_are_explained(changes: Any, error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        load_dataset(saved(tmp_path, arrays(**changes)))


def test_damaged_files_and_missing_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_bytes(b"PK nothing")
    with pytest.raises(DatasetError, match=r"no\.npz cannot be read"):
        load_dataset(tmp_path / "no.npz")
    contents = arrays()
    del contents["val_images"]
    with pytest.raises(DatasetError, match="no array 'val_images'"):
        load_dataset(saved(tmp_path, contents))

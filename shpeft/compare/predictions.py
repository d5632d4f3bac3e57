"""Test probabilities of cells on disk: one small file a cell while a table fills, one archive afterwards.

An archive is a ``.npz`` file that plain NumPy reads. Its arrays ``cells``, ``outputs`` and ``cases`` have one entry a
cell: its key, and the digests that its probabilities and its test cases are stored under, as
``<digest>/probabilities``, ``<digest>/labels``, ``<digest>/groups`` and ``<digest>/classes``. Equal content is stored
once: all cells of a dataset and seed share their test cases, and trainings that end alike share their probabilities.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.predict import Predictions
from shpeft.tasks import SINGLE_LABEL, MultiLabel, Regression, read_task

Arrays = dict[str, NDArray[Any]]
"""``probabilities`` (N, C) float32, ``labels`` (N,) int16, ``groups`` (N,) uint64, ``classes`` (C,) strings.

Of other tasks than single labels there is ``task``, a string of JSON; labels of findings are (N, C) int8, and numbers
(N,) float64.
"""

CASES = ("labels", "groups", "classes", "task")
"""The arrays that describe the test cases, whatever the model says of them."""

OUTPUTS = ("probabilities",)


def to_arrays(predictions: Predictions) -> Arrays:
    """Convert predictions to arrays that name no case: cases are numbered, groups are hashes of 64 bits."""
    groups = [int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) for group in predictions.groups]
    task = predictions.task
    labels = np.int8 if isinstance(task, MultiLabel) else np.float64 if isinstance(task, Regression) else np.int16
    return {
        "probabilities": predictions.probabilities.astype(np.float32),
        "labels": np.asarray(predictions.labels, dtype=labels),
        "groups": np.asarray(groups, dtype=np.uint64),
        "classes": np.asarray(predictions.classes),
        **({} if task == SINGLE_LABEL else {"task": np.asarray(json.dumps(task.to_dict()))}),
    }


def from_arrays(arrays: Arrays) -> Predictions:
    """Convert stored arrays to predictions, whose ids are case numbers."""
    task = read_task(json.loads(str(arrays["task"]))) if "task" in arrays else SINGLE_LABEL
    values = arrays["labels"].tolist()
    labels = tuple(map(tuple, values)) if arrays["labels"].ndim > 1 else tuple(values)
    return Predictions(
        ids=tuple(str(number) for number in range(len(labels))),
        labels=labels,
        groups=tuple(f"{group:016x}" for group in arrays["groups"]),
        classes=tuple(str(name) for name in arrays["classes"]),
        probabilities=arrays["probabilities"].astype(np.float64),
        task=task,
    )


def encode_cell(arrays: Arrays) -> bytes:
    """Encode the arrays of one cell as a compressed ``.npz`` file."""
    return _compress(arrays)


def decode_cell(data: bytes) -> Arrays:
    """Decode what :func:`encode_cell` returned.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile: the data is damaged.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in (*OUTPUTS, *CASES) if name != "task" or name in file}


def encode_archive(cells: Mapping[str, Arrays]) -> bytes:
    """Encode the arrays of several cells, by key, as one archive; the same cells give the same bytes."""
    index: dict[str, list[str]] = {"cells": sorted(cells), "outputs": [], "cases": []}
    content: Arrays = {}
    for key in index["cells"]:
        for column, names in (("outputs", OUTPUTS), ("cases", CASES)):
            arrays = {name: cells[key][name] for name in names if name in cells[key]}
            digest = _digest(arrays)
            index[column].append(digest)
            content |= {f"{digest}/{name}": array for name, array in arrays.items()}
    return _compress({name: np.asarray(column) for name, column in index.items()} | content)


class Archive:
    """An archive in memory, whose arrays are decompressed when they are read.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile: the file is missing or damaged.
    """

    def __init__(self, path: str | Path):
        self._file = np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False)
        digests = zip(self._file["outputs"].tolist(), self._file["cases"].tolist(), strict=True)
        self._digests = dict(zip(self._file["cells"].tolist(), digests, strict=True))

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the cells."""
        return frozenset(self._digests)

    def arrays(self, key: str) -> Arrays:
        """Read the arrays of a cell.

        Raises:
            KeyError: there is no such cell.
        """
        outputs, cases = self._digests[key]
        names = {**dict.fromkeys(OUTPUTS, outputs), **dict.fromkeys(CASES, cases)}
        return {
            name: self._file[f"{digest}/{name}"]
            for name, digest in names.items()
            if name != "task" or f"{digest}/task" in self._file
        }


def _digest(arrays: Arrays) -> str:
    content = hashlib.sha256()
    for array in arrays.values():
        content.update(f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


def _compress(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()

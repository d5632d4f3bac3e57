"""MedMNIST+ through its own package: standard tasks with official splits, from 28 to 224 pixels."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from shpeft.config.schema import OnLeakage
from shpeft.datasets.arrays import as_split, check_memory, without_leakage
from shpeft.datasets.base import Dataset, make_dataset
from shpeft.errors import DatasetError, MissingExtra, did_you_mean
from shpeft.support.network import unreachable
from shpeft.support.progress import Progress
from shpeft.tasks import MULTI_LABEL, SINGLE_LABEL

TITLES = {
    "chestmnist": ("Fourteen findings in chest X-rays", "chest x-ray"),
    "pathmnist": ("Colon pathology", "histopathology"),
    "dermamnist": ("Pigmented skin lesions", "dermoscopy"),
    "octmnist": ("Retinal optical coherence tomography", "oct"),
    "pneumoniamnist": ("Pneumonia in children's chest X-rays", "chest x-ray"),
    "retinamnist": ("Severity of diabetic retinopathy", "fundus"),
    "breastmnist": ("Breast ultrasound", "ultrasound"),
    "bloodmnist": ("Blood cells under the microscope", "microscopy"),
    "tissuemnist": ("Kidney cortex cells under the microscope", "microscopy"),
    "organamnist": ("Abdominal organs in CT, axial", "ct"),
    "organcmnist": ("Abdominal organs in CT, coronal", "ct"),
    "organsmnist": ("Abdominal organs in CT, sagittal", "ct"),
}
"""The sets of images; the 3D sets have none. ChestMNIST has several findings a case, all others have one class."""

PROBLEMS = {
    "dermamnist": (
        "images of one lesion occur in several of the published splits, so test results are too optimistic "
        "(Abhishek et al., doi 10.1038/s41597-025-04382-5).",
    )
}
"""Known problems of a task, for its card."""

SIZES = (28, 64, 128, 224)

HOST = "zenodo.org"


def known() -> list[dict[str, Any]]:
    """For listing, without the package."""
    return [
        {"source": f"medmnist:{name}", "title": title, "kind": "medmnist", "modality": modality, "classes": []}
        for name, (title, modality) in TITLES.items()
    ]


def load(spec: str, *, leakage: OnLeakage = "report", progress: Progress) -> Dataset:
    """Open ``NAME`` or ``NAME@SIZE`` (224 when not given), downloading it when it is not there yet.

    Raises:
        DatasetError: unknown name or size, no network, a damaged file, or one that is larger than the memory; Leakage,
            where copies in two splits are to be refused.
        MissingExtra: the package medmnist is not installed.
    """
    name, size = _parse(spec)
    package = _package()
    info = package.INFO[name]
    constructor = getattr(package, info["python_class"])
    file = Path.home() / ".medmnist" / f"{name}{'' if size == 28 else f'_{size}'}.npz"
    classes = tuple(str(info["label"][str(index)]) for index in range(len(info["label"])))
    task = MULTI_LABEL if str(info.get("task", "")).startswith(MULTI_LABEL.name) else SINGLE_LABEL
    splits = []
    for done, split in enumerate(("train", "val", "test")):
        progress(f"Opening {file.name}", done, 3)
        try:
            if not file.exists():
                _download(constructor, name, size, file)
            check_memory(file)
            data = constructor(split=split, root=str(file.parent), size=size, download=False)
        except DatasetError:
            raise
        except Exception as error:  # the package raises RuntimeError for everything, numpy anything on a damaged file
            raise DatasetError(
                f"'medmnist:{spec}' cannot be opened from {file.name}: {_first_line(error)}. If the file is damaged,"
                f" delete it from {file.parent} and try again."
            ) from None
        splits.append(as_split(split, data.imgs, data.labels, classes, file.stem, task))
    progress(f"Opening {file.name}", 3, 3)
    splits, metadata_card = without_leakage(splits, leakage)
    metadata_card["warnings"] += PROBLEMS.get(name, ())
    return make_dataset(
        f"medmnist:{name}@{size}",
        splits,
        "train, val and test as published by MedMNIST.",
        modality=TITLES[name][1],
        notice=f"MedMNIST, {info['license']}. Research use only.",
        **metadata_card,
    )


def _download(constructor: Callable[..., Any], name: str, size: int, file: Path) -> None:
    """Fetch the file beside its place, and move it there when it is whole."""
    _preflight(name, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent) as folder:
        constructor(split="test", root=folder, size=size, download=True)
        os.replace(Path(folder) / file.name, file)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".!") if lines else type(error).__name__


def _parse(spec: str) -> tuple[str, int]:
    name, _, size = spec.strip().lower().partition("@")
    if name not in TITLES:
        raise DatasetError(f"'medmnist:{name}' is not a 2D task of MedMNIST. {did_you_mean(name, TITLES)}")
    if size and (not size.isdigit() or int(size) not in SIZES):
        sizes = ", ".join(str(known) for known in SIZES)
        raise DatasetError(f"'medmnist:{spec}' asks for the size '{size}'; MedMNIST has {sizes}.")
    return name, int(size or 224)


def _package() -> ModuleType:
    try:
        return importlib.import_module("medmnist")
    except ImportError:
        raise MissingExtra(
            "MedMNIST needs the package 'medmnist', which is not installed. Install it with: pip install"
            " 'shpeft[medmnist]'"
        ) from None


def _preflight(name: str, file: Path) -> None:
    """Fail within seconds where there is no network, instead of hanging in a download."""
    reason = unreachable(f"https://{HOST}")
    if reason is not None:
        raise DatasetError(
            f"'medmnist:{name}' is not on this machine yet, and {HOST} cannot be reached ({reason}). Connect to the"
            f" network, or copy {file.name} into {file.parent}, or use a folder or 'phantom:fundus'."
        )

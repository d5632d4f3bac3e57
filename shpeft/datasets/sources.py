"""The one door to every dataset: a word such as ``phantom:fundus``, or a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from shpeft.datasets import arrays, folder, medmnist, phantoms, recipes
from shpeft.datasets.base import Dataset
from shpeft.datasets.leakage import Handling
from shpeft.errors import DatasetError, did_you_mean
from shpeft.images import Decoding
from shpeft.progress import Progress, silent


def load_dataset(
    source: str | Path,
    *,
    seed: int = 0,
    val_fraction: float = 0.2,
    test_fraction: float = 0.2,
    window: str = "auto",
    frame: int | None = None,
    columns: Mapping[str, str] | None = None,
    on_unreadable: Literal["skip", "refuse"] = "skip",
    leakage: Handling = "report",
    cache: bool = True,
    progress: Progress = silent,
) -> Dataset:
    """Open a dataset.

    Args:
        source: a folder of class folders, a table of images (CSV, TSV, Parquet, JSON lines), an ``.npz``,
            ``recipe:NAME=FOLDER`` (a public set as it is unpacked), ``medmnist:NAME[@SIZE]``, or
            ``phantom:NAME[?option=value&...]``.
        seed: decides which cases are kept for validation and, where no split is given, for testing.
        val_fraction: share of the training cases kept for validation where no validation split is given.
        test_fraction: share of all cases kept for testing where no test split is given.
        window, frame: what to show of images with more than 8 bits or one frame; see :class:`shpeft.images.Decoding`.
        columns: what a table's columns for path, label, split, group and subgroup are called, where not as usual.
        on_unreadable: name damaged images in the card and go on, or refuse the dataset.
        leakage: what to do with images, patients and look-alikes that stand in two of the splits that are given: say so
            in the card, leave out the twin nearer to training (the test stays as given), or refuse the dataset.
        cache: whether what was learned of a folder's files, and their resized pixels, are kept in the user's cache
            folder for the next time; see :mod:`shpeft.datasets.cache`. Results are the same to the bit.
        progress: called with the number of images read. When it stops the work, the next time goes on from there.

    Raises:
        DatasetError: the source is unknown, empty, damaged, of one class only, or its splits do not fit together;
            Leakage, where that is to be refused, or where without it a class has no images.
        ConfigError: there is no such window.
        MissingExtra: what MedMNIST or DICOM files need is not installed.
    """
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise DatasetError(f"{name} is {value}; it must be more than 0 and less than 1, for example 0.2.")
    if leakage not in get_args(Handling):
        raise DatasetError(f"leakage is '{leakage}'. {did_you_mean(leakage, get_args(Handling))}")
    decoding = Decoding(window, frame)
    kind, colon, name = str(source).partition(":")
    if colon and kind == "phantom":
        return phantoms.load(name, seed=seed, val_fraction=val_fraction)
    if colon and kind == "medmnist":
        return medmnist.load(name, leakage=leakage, progress=progress)
    special: dict[str, Any] = {}
    if colon and kind == "recipe":
        recipe, source = recipes.parse(name)
        special = {"discovery": recipe.discover, "card": recipe.card()}
    if not str(source).strip():
        raise DatasetError(f"No dataset is named. Give a folder, or one of: {', '.join(_words())}.")
    try:
        root = Path(source).expanduser()
        if root.suffix == ".npz" and root.is_file() and not special:
            return arrays.load(root, leakage)
        if root.exists() or special:
            return folder.load(
                root,
                seed=seed,
                val_fraction=val_fraction,
                test_fraction=test_fraction,
                decoding=decoding,
                columns=columns or {},
                on_unreadable=on_unreadable,
                leakage=leakage,
                cache=cache,
                progress=progress,
                **special,
            )
    except (OSError, RuntimeError) as error:  # no permission, a name that is too long, a home that does not exist
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise DatasetError(
            f"The folder '{source}' cannot be read: {reason}. Give a folder that this user may read."
        ) from None
    hint = did_you_mean(str(source), _words()) if colon or "/" not in str(source) else ""
    raise DatasetError(
        f"There is no dataset '{source}': no such folder here, and no built-in source of that name. {hint}".strip()
    )


def known_sources() -> list[dict[str, Any]]:
    """The built-in sources, for listing: source, title, kind, modality, classes (empty where only loading tells)."""
    return [*phantoms.known(), *recipes.known(), *medmnist.known()]


def recipe_of(source: str) -> recipes.Recipe | None:
    """The recipe that a source names, with its folder or without; None of other sources.

    Raises:
        DatasetError: there is no such recipe.
    """
    kind, _, name = source.partition(":")
    return recipes.find(name.partition("=")[0].strip()) if kind == "recipe" else None


def _words() -> list[str]:
    return [entry["source"] for entry in known_sources()]

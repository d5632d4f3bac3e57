"""Load a dataset from any source: a folder, a table, or a name such as ``phantom:fundus``."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from shpeft.config.schema import Blank, DatasetConfig, OnLeakage, OnUnreadable, TaskName, Uncertain
from shpeft.datasets import arrays, folder, medmnist, phantoms, public_sets, table
from shpeft.datasets.base import Dataset
from shpeft.datasets.folds import with_fold
from shpeft.datasets.labels import LabelRules
from shpeft.errors import DatasetError, did_you_mean, with_file_notes
from shpeft.images import Decoding
from shpeft.support.allowed_folders import check_allowed
from shpeft.support.progress import Progress, silent
from shpeft.tasks import ORDINAL, SINGLE_LABEL

DEFAULTS = DatasetConfig()
"""The settings of a run that names none."""


def load_dataset(
    source: str | Path,
    *,
    seed: int = 0,
    task: TaskName = DEFAULTS.task,
    uncertain: Uncertain = DEFAULTS.uncertain,
    blank: Blank = DEFAULTS.blank,
    val_fraction: float = DEFAULTS.val_fraction,
    test_fraction: float = DEFAULTS.test_fraction,
    fold: str = DEFAULTS.fold,
    window: str = DEFAULTS.window,
    frame: int | None = DEFAULTS.frame,
    columns: Mapping[str, str] | None = None,
    on_unreadable: OnUnreadable = DEFAULTS.on_unreadable,
    leakage: OnLeakage = DEFAULTS.leakage,
    cache: bool = DEFAULTS.cache,
    progress: Progress = silent,
) -> Dataset:
    """Load a dataset; images are decoded when they are used.

    Args:
        source: a folder of class folders, a table of images (CSV, TSV, Parquet, JSON lines), an ``.npz``,
            ``recipe:NAME=FOLDER`` (a public set as it is unpacked), ``medmnist:NAME[@SIZE]``, or
            ``phantom:NAME[?option=value&...]``.
        seed: of the validation split and, if no split is given, of the test split.
        task: what a label is; ``auto`` follows from the labels.
        uncertain, blank: how -1 and blank cells in a table's columns of findings are read.
        val_fraction: share of the training cases for validation, if no validation split is given.
        test_fraction: share of all cases for testing, if no test split is given.
        fold: the part of all images to test, such as ``2/5``, ``site:2/3`` or ``fold:2/3``; given splits and
            ``test_fraction`` then do not count. Empty: the test split as given or drawn.
        window, frame: for images with more than 8 bits or several frames; see :class:`shpeft.images.Decoding`.
        columns: names of a table's columns for path, label, split, group, subgroup and fold, if they are not the usual
            ones.
        on_unreadable: ``skip`` lists damaged images in the card; ``refuse`` raises.
        leakage: for images, patients and look-alikes in two of the given splits. ``report`` says so in the card,
            ``drop`` removes the copy nearer to training (the test split stays as given), ``refuse`` raises.
        cache: whether to cache file properties and resized pixels in the user's cache folder; see
            :mod:`shpeft.datasets.cache`. The results are identical to the bit.
        progress: called with the number of images read. If it raises, the next call resumes from there.

    Returns:
        The dataset, with its splits and card.

    Raises:
        DatasetError: the source is unknown, empty, damaged or of one class only, or its splits do not fit together;
            in particular Leakage, if it is refused or if dropping it leaves a class without images.
        ConfigError: there is no such window.
        MissingExtra: the package for MedMNIST or DICOM files is not installed.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> data.classes
        ('healthy', 'haemorrhages', 'exudates')
        >>> len(data.train), len(data.val), len(data.test)
        (18, 6, 12)
    """
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise DatasetError(f"{name} is {value}; it must be more than 0 and less than 1, for example 0.2.")
    if leakage not in get_args(OnLeakage):
        raise DatasetError(f"leakage is '{leakage}'. {did_you_mean(leakage, get_args(OnLeakage))}")
    options: dict[str, Any] = {
        "seed": seed,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "decoding": Decoding(window, frame),
        "columns": columns or {},
        "on_unreadable": on_unreadable,
        "leakage": leakage,
        "cache": cache,
        "progress": progress,
        "rules": LabelRules(task, uncertain, blank),
    }
    data = _load(source, options)
    return with_fold(data, fold, seed=seed, val_fraction=val_fraction) if fold else data


def _load(source: str | Path, options: dict[str, Any]) -> Dataset:
    """Load a source with its own splits; the options are those of ``folder.load``."""
    leakage, progress, rules = options["leakage"], options["progress"], options["rules"]
    kind, colon, name = str(source).partition(":")
    if colon and kind == "phantom":
        data = phantoms.load(name, seed=options["seed"], val_fraction=options["val_fraction"])
        return _as_task(data, rules.task)
    if colon and kind == "medmnist":
        return _as_task(medmnist.load(name, leakage=leakage, progress=progress), rules.task)
    special: dict[str, Any] = {}
    if colon and kind == "recipe":
        recipe, source = public_sets.parse(name)
        special = {"discovery": recipe.discover, "card": recipe.card()}
    if not str(source).strip():
        raise DatasetError(f"No dataset is named. Give a folder, or one of: {', '.join(_source_names())}.")
    check_allowed(source, DatasetError)
    try:
        root = Path(source).expanduser()
        if root.suffix == ".npz" and root.is_file() and not special:
            return _as_task(arrays.load(root, leakage), rules.task)
        if root.exists() or special:
            return _as_task(folder.load(root, **options, **special), rules.task)
    except (OSError, RuntimeError) as error:  # no permission, a name that is too long, a home that does not exist
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise DatasetError(
            f"The folder '{source}' cannot be read: {reason}. Give a folder that this user may read."
        ) from None
    hint = did_you_mean(str(source), _source_names()) if colon or "/" not in str(source) else ""
    missing = DatasetError(
        f"There is no dataset '{source}': no such folder, and no built-in source of that name. {hint}".strip()
    )
    near = _near_folder(root)
    raise with_file_notes(missing, [(near, "a folder or table with a similar name")] if near else [])


def _as_task(data: Dataset, task: TaskName) -> Dataset:
    """Return the dataset if it is of the task that was asked for.

    Raises:
        DatasetError: its labels are others.
    """
    if task == ORDINAL.name and data.task == SINGLE_LABEL:
        train, val, test = (replace(split, task=ORDINAL) for split in data.splits)
        return replace(data, train=train, val=val, test=test)
    if task == "regression" and data.task.name != task:
        raise DatasetError(
            f"'{data.name}' has classes, and a regression needs a number for each image. Give a table with the columns "
            "path and value, or phantom:nodule; or set the task to auto."
        )
    if task not in ("auto", data.task.name):
        raise DatasetError(f"The labels of '{data.name}' are {data.task.name}, and the task is {task}. Set it to auto.")
    return data


def _near_folder(root: Path) -> str:
    """Return the path beside a missing one whose name is nearest to it; empty if none is near.

    It is a note, not part of the message, which runs store: folders may be called after patients.
    """
    parent = root.parent
    try:
        names = [entry.name for entry in parent.iterdir() if entry.is_dir() or entry.suffix in table.SUFFIXES]
    except OSError:
        return ""
    near = get_close_matches(root.name, names, n=1)
    return str(parent / near[0]) if near else ""


def known_sources() -> list[dict[str, Any]]:
    """Return the built-in sources, each with its source, title, kind, modality and classes.

    The classes are empty if they are known only after loading.
    """
    return [*phantoms.known(), *public_sets.known(), *medmnist.known()]


def recipe_of(source: str) -> public_sets.Recipe | None:
    """Return the recipe of a source ``recipe:NAME`` or ``recipe:NAME=FOLDER``; None for other sources.

    Raises:
        DatasetError: there is no such recipe.
    """
    kind, _, name = source.partition(":")
    return public_sets.find(name.partition("=")[0].strip()) if kind == "recipe" else None


def _source_names() -> list[str]:
    return [entry["source"] for entry in known_sources()]

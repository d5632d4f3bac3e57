"""Load a dataset from image files, in class folders or listed in a table."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from shpeft.config.schema import OnLeakage
from shpeft.datasets import table
from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.cache import Reading
from shpeft.datasets.cautions import size_reveals_class, sizes
from shpeft.datasets.deduplicate import Case, joined, opaque, without_copies, without_leakage
from shpeft.datasets.discover import ImageFile, Layout, discover, read_groups, read_subgroups
from shpeft.datasets.duplicates import near_pairs
from shpeft.datasets.labels import AUTOMATIC, LabelRules, check_labels
from shpeft.datasets.scan import check, shown_as
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError, EmptyDataset, UnreadableImage, with_file_notes
from shpeft.images import DEFAULT_DECODING, Decoding, Facts, Pixels, open_image, open_pixels, read_facts
from shpeft.support.bounded_files import read_regular_file
from shpeft.support.limits import IMAGE_BYTES
from shpeft.support.progress import Progress
from shpeft.tasks import ORDINAL, Regression, SingleLabel


@dataclass(frozen=True)
class Files:
    """Image files with their lesion masks, and the SHA-256 of each file when the dataset was loaded."""

    paths: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    contents: tuple[bytes, ...]
    decoding: Decoding = DEFAULT_DECODING

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size.

        Raises:
            UnreadableImage: the file was removed or changed; the message does not name it.
        """
        return open_image(self._data(index), self.decoding)

    def pixels(self, index: int) -> Pixels:
        """Return an image with all the bits of its file."""
        return open_pixels(self._data(index), self.decoding)

    def facts(self, index: int) -> Facts:
        """Return what an image's file states about how it was made."""
        return read_facts(self.paths[index], self.decoding.frame)

    def _data(self, index: int) -> bytes:
        content = self.contents[index]
        try:
            data = read_regular_file(self.paths[index], IMAGE_BYTES)
        except (OSError, ValueError) as error:
            raise UnreadableImage(_gone(content, getattr(error, "strerror", None) or str(error))) from None
        if hashlib.sha256(data).digest() != content:
            raise UnreadableImage(_gone(content, "its content is another one"))
        return data

    def mask(self, index: int) -> np.ndarray | None:
        """Return the union of an image's lesion masks at the image's size, or None if it has none."""
        if not self.masks[index]:
            return None
        size = self.image(index).size
        drawn = [
            np.asarray(open_image(path).convert("L").resize(size, Image.Resampling.NEAREST))
            for path in self.masks[index]
        ]
        union: np.ndarray = np.any([values > values.max() / 2 for values in drawn], axis=0)  # of values 0/255 or 0/1
        return union


LISTED_PAIRS = 10_000
"""Look-alikes that a card lists; it counts all of them."""

Discovery = Callable[[Path], tuple[Layout, dict[str, str], list[str]]]
"""Returns a folder's images, the known groups by file name, and warnings."""


def load(
    root: Path,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    decoding: Decoding,
    columns: Mapping[str, str],
    on_unreadable: Literal["skip", "refuse"],
    leakage: OnLeakage,
    cache: bool,
    progress: Progress,
    rules: LabelRules = AUTOMATIC,
    discovery: Discovery | None = None,
    card: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load a folder, or the images listed in a table, after decoding every image once as a check.

    Args:
        rules: how labels are read.
        discovery: finds the images of a folder with a special layout. None: class folders or a table.
        card: further entries of the card; without ``name`` the dataset has the folder's name.
        cache: whether to cache file properties and pixels.

    Raises:
        DatasetError: the folder cannot be used; its subclasses say why.
    """
    progress("Finding images", 0, 0)
    if discovery is None:
        layout, groups, warnings = _discovered(root, columns, rules, progress)
    else:
        layout, groups, warnings = discovery(root)
    task = layout.task
    readings, unreadable = _read(root, layout, decoding, on_unreadable, cache, progress)
    contradictory: list[list[str]] = []
    cases = without_copies(_cases(readings, groups, warnings), warnings, contradictory)
    _check_classes(root, layout, cases, unreadable)
    crowds: list[int] = []
    homes = [case.file.split for case in cases]
    pairs = near_pairs(np.stack([case.look for case in cases]), progress=progress, homes=homes, crowds=crowds)
    near = [(cases[a].id, cases[b].id) for a, b in pairs[:LISTED_PAIRS]]
    if crowds:
        warnings.append(
            f"{max(crowds):,} images look so much alike that not every pair of them was compared, but each with its "
            "nearest ones: the number of look-alikes is a lower bound."
        )
    if len(pairs):
        warnings.append(
            f"{len(pairs):,} pair{'s' * (len(pairs) != 1)} of images look the same (re-saved copies, or much alike)."
        )
    cases, pairs, leaked = without_leakage(cases, pairs, leakage, warnings, task)
    cases = joined(cases, pairs)
    given = {name: [case for case in cases if case.file.split == name] for name in layout.splits}
    splits, rule = _split(given, layout, decoding, seed, val_fraction, test_fraction)
    check_labels(root.name, splits[:2])
    if cache:
        splits = [_with_cache_keys(split, shown_as(decoding)) for split in splits]
    pixels = np.array([case.size for case in cases])
    labels = [task.parse(case.file.label, layout.classes) for case in cases]
    warning = size_reveals_class(pixels, np.array(labels)) if isinstance(task, SingleLabel) else None
    if not groups:
        warnings.append("No patients or groups are known: images of one patient may stand on both sides of a split.")
    described = {
        "name": root.resolve().name,
        "sizes": sizes(pixels),
        "unreadable": unreadable,
        "contradictory": contradictory,
        "unreadable_ids": [reading.id for _, reading in readings if reading.error and reading.id],
        "near_duplicates": near,
        "leakage": leaked,
        "warnings": warnings + [warning] * bool(warning),
    } | dict(card or {})
    return make_dataset(splits=splits, split_rule=rule, **described)


def load_whole(
    root: Path,
    *,
    decoding: Decoding,
    columns: Mapping[str, str],
    on_unreadable: Literal["skip", "refuse"],
    cache: bool,
    progress: Progress,
    rules: LabelRules = AUTOMATIC,
    discovery: Discovery | None = None,
) -> tuple[Split, list[str]]:
    """Load all images of a folder or a table as one split, whatever splits and classes it has; return warnings, too.

    Raises:
        DatasetError: the folder cannot be used; its subclasses say why.
    """
    progress("Finding images", 0, 0)
    if discovery is None:
        layout, groups, warnings = _discovered(root, columns, rules, progress, whole=True)
    else:
        layout, groups, warnings = discovery(root)
    layout = replace(layout, files=tuple(replace(file, split="test") for file in layout.files))
    readings, unreadable = _read(root, layout, decoding, on_unreadable, cache, progress)
    cases = without_copies(_cases(readings, groups, warnings), warnings)
    if not cases:
        raise with_file_notes(EmptyDataset(_none_readable(root, len(unreadable))), unreadable)
    if unreadable:
        warnings.append(f"{len(unreadable):,} of the image files cannot be read; left out.")
    if not groups:
        warnings.append("No patients or groups are known: intervals take every image as a patient of its own.")
    present = {part for case in cases for part in layout.task.parts(case.file.label)}
    classes = tuple(name for name in layout.classes if name in present or not isinstance(layout.task, SingleLabel))
    split = _as_split("test", cases, replace(layout, classes=classes), decoding)
    return (_with_cache_keys(split, shown_as(decoding)) if cache else split), warnings


def _read(
    root: Path, layout: Layout, decoding: Decoding, on_unreadable: str, cache: bool, progress: Progress
) -> tuple[list[tuple[ImageFile, Reading]], list[list[str]]]:
    """Return a reading of every file, and the name and the reason of each that cannot be read."""
    paths = [file.path for file in layout.files]
    readings = list(zip(layout.files, check(paths, decoding, progress, cache=cache), strict=True))
    unreadable = [[file.name, reading.error] for file, reading in readings if reading.error]
    if unreadable and on_unreadable == "refuse":
        raise with_file_notes(UnreadableImage(_refusal(root, len(unreadable))), unreadable)
    return readings, unreadable


def _cases(readings: Sequence[tuple[ImageFile, Reading]], groups: Mapping[str, str], warnings: list[str]) -> list[Case]:
    """Return the readable images with their groups."""
    cases = [
        Case(
            file,
            reading.id,
            opaque(groups[file.name]) if file.name in groups else reading.id,
            reading.look,
            reading.size,
            reading.content,
        )
        for file, reading in readings
        if reading.look is not None
    ]
    if groups and (alone := sum(case.file.name not in groups for case in cases)):
        warnings.append(f"{alone} of the images have no group in the table; each of them is a group of its own.")
    return cases


def _discovered(
    root: Path, columns: Mapping[str, str], rules: LabelRules, progress: Progress, whole: bool = False
) -> tuple[Layout, dict[str, str], list[str]]:
    """Return the images, the known groups by file name, and warnings.

    Args:
        whole: the images are for testing alone: no training images and no class is needed.
    """
    if root.is_file() and root.suffix.lower() in table.WORKBOOKS:
        raise DatasetError(
            f"'{root.name}' is a workbook; tables are read as {', '.join(table.SUFFIXES)}. Save its sheet as 'CSV "
            "UTF-8', and give that file."
        )
    tables = {"": root} if root.is_file() and root.suffix.lower() in table.SUFFIXES else {}
    if not tables and root.is_dir():
        tables = table.tables_of(root)
    if tables:
        layout, groups = table.discover(tables, columns, rules, whole=whole)
        return layout, groups, list(layout.warnings)
    layout = discover(root, progress, whole=whole)
    if rules.task == "multi-label":
        raise DatasetError(
            f"'{root.name}' has a folder for each class, so that an image has one class. Give a table with the "
            "findings of each image, such as edema|mass in a column 'label', or set the task to single-label."
        )
    if rules.task == "regression":
        raise DatasetError(
            f"'{root.name}' has a folder for each class, and a regression needs a number for each image. Give a table "
            "with the columns path and value, or set the task to single-label or ordinal."
        )
    if rules.task == "ordinal":
        layout = replace(layout, task=ORDINAL)
    warnings = list(layout.warnings)
    subgroups = read_subgroups(root, table.COLUMNS["subgroup"])
    files = tuple(replace(file, subgroup=subgroups.get(file.name, "")) for file in layout.files)
    return replace(layout, files=files), read_groups(root, warnings), warnings


def _split(
    given: dict[str, list[Case]],
    layout: Layout,
    decoding: Decoding,
    seed: int,
    val_fraction: float,
    test_fraction: float,
) -> tuple[list[Split], str]:
    """Return train, val and test, drawn from train if not given, and the sentence that says how."""
    parts = dict(given)
    drawn = {"test": test_fraction, "val": val_fraction}
    rules = []
    for name, fraction in drawn.items():
        if name in parts:
            rules.append(f"{name} as given by the folder")
            continue
        train = parts["train"]
        labels = [layout.task.parse(case.file.label, layout.classes) for case in train]
        strata = layout.task.strata(labels, layout.classes)
        stay, leave = split_off(strata, [case.group for case in train], fraction, seed, layout.classes)
        parts["train"], parts[name] = [train[row] for row in stay], [train[row] for row in leave]
        share = f"{fraction:.0%} of {'all' if len(parts) == 2 and name == 'test' else 'the training'} images"
        rules.append(f"{name} is {share}, {layout.task.drawn_by}whole groups, seed {seed}")
    return [_as_split(name, parts[name], layout, decoding) for name in ("train", "val", "test")], "; ".join(rules) + "."


def _as_split(name: str, cases: Sequence[Case], layout: Layout, decoding: Decoding) -> Split:
    return Split(
        name=name,
        classes=layout.classes,
        labels=tuple(layout.task.parse(case.file.label, layout.classes) for case in cases),
        task=layout.task,
        ids=tuple(case.id for case in cases),
        groups=tuple(case.group for case in cases),
        source=Files(
            tuple(case.file.path for case in cases),
            tuple(case.file.masks for case in cases),
            tuple(case.content for case in cases),
            decoding,
        ),
        subgroups=tuple(case.file.subgroup for case in cases) if any(case.file.subgroup for case in cases) else (),
        folds=tuple(case.file.fold for case in cases) if any(case.file.fold for case in cases) else (),
    )


def _with_cache_keys(split: Split, shown: bytes) -> Split:
    """Return the split with the keys of its images in the cache on disk."""
    assert isinstance(split.source, Files)
    return replace(split, contents=tuple(content + shown for content in split.source.contents))


def _check_classes(root: Path, layout: Layout, cases: Sequence[Case], unreadable: Sequence[Sequence[str]]) -> None:
    """Check that every class has a readable image in every given split."""
    if not cases:
        raise with_file_notes(EmptyDataset(_none_readable(root, len(unreadable))), unreadable)
    left = Counter((case.file.split, part) for case in cases for part in layout.task.parts(case.file.label))
    for split in layout.splits if isinstance(layout.task, SingleLabel) else ("train",):
        for name in () if isinstance(layout.task, Regression) else layout.classes:
            if not left[split, name]:
                sentence = (
                    f"The class '{name}' of '{root.name}' has no usable image in {split} ({len(unreadable):,} files of "
                    "the dataset are damaged). Repair or replace its files, or remove the class from every split."
                )
                raise with_file_notes(EmptyDataset(sentence), unreadable)


def _none_readable(root: Path, count: int) -> str:
    return f"None of the {count:,} image files of '{root.name}' can be read. Check how they were copied."


def _refusal(root: Path, count: int) -> str:
    return (
        f"{count:,} image file{'s' * (count != 1)} of '{root.name}' cannot be read; opening the dataset lists them "
        "with the reasons. Repair or remove them, or set on_unreadable to 'skip' to leave them out."
    )


def _gone(content: bytes, why: str) -> str:
    return (
        f"The file of the case {content.hex()[:12]} has changed since the dataset was opened: {why}. Put it back, or "
        "open the dataset again."
    )

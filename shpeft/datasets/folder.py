"""Image files, found in folders or listed in a table, become a dataset."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from shpeft.datasets import table
from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.card import size_tells_class, sizes
from shpeft.datasets.cases import Case, joined, opaque, without_copies, without_leakage
from shpeft.datasets.checking import check, shown_as
from shpeft.datasets.duplicates import near_pairs
from shpeft.datasets.layout import Layout, discover, read_groups, read_subgroups
from shpeft.datasets.leakage import Handling
from shpeft.datasets.splitting import split_off
from shpeft.errors import EmptyDataset, UnreadableImage, named
from shpeft.images import AS_FILED, Decoding, Pixels, open_image, open_pixels
from shpeft.progress import Progress


@dataclass(frozen=True)
class Files:
    """Image files, each with the files of its lesion masks and the SHA-256 that it had when the dataset was opened."""

    paths: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    contents: tuple[bytes, ...]
    decoding: Decoding = AS_FILED

    def image(self, index: int) -> Image.Image:
        """The image in RGB at its own size.

        Raises:
            UnreadableImage: the file is gone or another one by now; in words that do not name it.
        """
        return open_image(self._data(index), self.decoding)

    def pixels(self, index: int) -> Pixels:
        """The same with all the bits that the file has."""
        return open_pixels(self._data(index), self.decoding)

    def _data(self, index: int) -> bytes:
        content = self.contents[index]
        try:
            data = self.paths[index].read_bytes()
        except OSError as error:
            raise UnreadableImage(_gone(content, str(error.strerror or error))) from None
        if hashlib.sha256(data).digest() != content:
            raise UnreadableImage(_gone(content, "its content is another one"))
        return data

    def mask(self, index: int) -> np.ndarray | None:
        """The union of the masks drawn for this image, at the image's size; None where there is none."""
        if not self.masks[index]:
            return None
        size = self.image(index).size
        drawn = [
            np.asarray(open_image(path).convert("L").resize(size, Image.Resampling.NEAREST))
            for path in self.masks[index]
        ]
        return np.any([values > values.max() / 2 for values in drawn], axis=0)  # masks come as 0/255 and as 0/1


Discovery = Callable[[Path], tuple[Layout, dict[str, str], list[str]]]
"""A folder's images, the group of each (by name) that has one, and warnings."""


def load(
    root: Path,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    decoding: Decoding,
    columns: Mapping[str, str],
    on_unreadable: Literal["skip", "refuse"],
    leakage: Handling,
    cache: bool,
    progress: Progress,
    discovery: Discovery | None = None,
    card: Mapping[str, Any] | None = None,
) -> Dataset:
    """Open a folder, or the images that a table lists, decoding every image once to see that it can be.

    Args:
        discovery: finds the images where a folder's layout is a special one; by default class folders or a table.
        card: what is known of the dataset besides; its name is the folder's where ``name`` is not there.
        cache: whether what was learned of files, and their pixels, may be kept for the next time.

    Raises:
        DatasetError: the folder cannot be used; its subclasses say why.
    """
    progress("Finding images", 0, 0)
    layout, groups, warnings = _found(root, columns, progress) if discovery is None else discovery(root)
    paths = [file.path for file in layout.files]
    readings = list(zip(layout.files, check(paths, decoding, progress, cache=cache), strict=True))
    unreadable = [[file.name, reading.error] for file, reading in readings if reading.error]
    if unreadable and on_unreadable == "refuse":
        raise named(UnreadableImage(_refusal(root, len(unreadable))), unreadable)
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
    if groups and (alone := sum(case.found.name not in groups for case in cases)):
        warnings.append(f"{alone} of the images have no group in the table; each of them is a group of its own.")
    cases = without_copies(cases, warnings)
    _check_classes(root, layout, cases, unreadable)
    pairs = near_pairs(np.stack([case.look for case in cases]), progress=progress)
    near = [(cases[a].id, cases[b].id) for a, b in pairs]
    if len(pairs):
        warnings.append(
            f"{len(pairs):,} pair{'s' * (len(pairs) != 1)} of images look the same (re-saved copies, or much alike)."
        )
    cases, pairs, leaked = without_leakage(cases, pairs, leakage, warnings)
    cases = joined(cases, pairs)
    given = {name: [case for case in cases if case.found.split == name] for name in layout.splits}
    splits, rule = _split(given, layout.classes, decoding, seed, val_fraction, test_fraction)
    if cache:
        splits = [_kept(split, shown_as(decoding)) for split in splits]
    pixels = np.array([case.size for case in cases])
    told = size_tells_class(pixels, np.array([layout.classes.index(case.found.label) for case in cases]))
    if not groups:
        warnings.append("No patients or groups are known: images of one patient may stand on both sides of a split.")
    described = {
        "name": root.resolve().name,
        "sizes": sizes(pixels),
        "unreadable": unreadable,
        "unreadable_ids": [reading.id for _, reading in readings if reading.error and reading.id],
        "near_duplicates": near,
        "leakage": leaked,
        "warnings": warnings + [told] * bool(told),
    } | dict(card or {})
    return make_dataset(splits=splits, split_rule=rule, **described)


def _found(root: Path, columns: Mapping[str, str], progress: Progress) -> tuple[Layout, dict[str, str], list[str]]:
    """The images, the group of each that has one, and warnings."""
    tables = {"": root} if root.is_file() and root.suffix in table.SUFFIXES else {}
    if not tables and root.is_dir():
        tables = table.tables_of(root)
    if tables:
        layout, groups = table.discover(tables, columns)
        return layout, groups, list(layout.warnings)
    layout = discover(root, progress)
    warnings = list(layout.warnings)
    subgroups = read_subgroups(root, table.COLUMNS["subgroup"])
    files = tuple(replace(file, subgroup=subgroups.get(file.name, "")) for file in layout.files)
    return replace(layout, files=files), read_groups(root, warnings), warnings


def _split(
    given: dict[str, list[Case]],
    classes: tuple[str, ...],
    decoding: Decoding,
    seed: int,
    val_fraction: float,
    test_fraction: float,
) -> tuple[list[Split], str]:
    """Train, val and test, taking from train what the folder does not give; and the sentence that says how."""
    parts = dict(given)
    drawn = {"test": test_fraction, "val": val_fraction}
    rules = []
    for name, fraction in drawn.items():
        if name in parts:
            rules.append(f"{name} as given by the folder")
            continue
        train = parts["train"]
        labels = [classes.index(case.found.label) for case in train]
        stay, leave = split_off(labels, [case.group for case in train], fraction, seed, classes)
        parts["train"], parts[name] = [train[row] for row in stay], [train[row] for row in leave]
        share = f"{fraction:.0%} of {'all' if len(parts) == 2 and name == 'test' else 'the training'} images"
        rules.append(f"{name} is {share}, stratified by class, whole groups, seed {seed}")
    return [_as_split(name, parts[name], classes, decoding) for name in ("train", "val", "test")], "; ".join(
        rules
    ) + "."


def _as_split(name: str, cases: Sequence[Case], classes: tuple[str, ...], decoding: Decoding) -> Split:
    return Split(
        name=name,
        classes=classes,
        labels=tuple(classes.index(case.found.label) for case in cases),
        ids=tuple(case.id for case in cases),
        groups=tuple(case.group for case in cases),
        source=Files(
            tuple(case.found.path for case in cases),
            tuple(case.found.masks for case in cases),
            tuple(case.content for case in cases),
            decoding,
        ),
        subgroups=tuple(case.found.subgroup for case in cases) if any(case.found.subgroup for case in cases) else (),
    )


def _kept(split: Split, shown: bytes) -> Split:
    """The split with what the cache on disk knows its images by."""
    assert isinstance(split.source, Files)
    return replace(split, contents=tuple(content + shown for content in split.source.contents))


def _check_classes(root: Path, layout: Layout, cases: Sequence[Case], unreadable: Sequence[Sequence[str]]) -> None:
    """Every class must still have an image in every split that the folder gives."""
    if not cases:
        sentence = (
            f"None of the {len(unreadable):,} image files of '{root.name}' can be read. Check how they were copied."
        )
        raise named(EmptyDataset(sentence), unreadable)
    left = Counter((case.found.split, case.found.label) for case in cases)
    for split in layout.splits:
        for name in layout.classes:
            if not left[split, name]:
                sentence = (
                    f"The class '{name}' of '{root.name}' has no usable image in {split} ({len(unreadable):,} files of "
                    "the dataset are damaged). Repair or replace its files, or remove the class from every split."
                )
                raise named(EmptyDataset(sentence), unreadable)


def _refusal(root: Path, count: int) -> str:
    return (
        f"{count:,} image file{'s' * (count != 1)} of '{root.name}' cannot be read; looking at the images names them "
        "and says why. Repair or remove them, or set on_unreadable to 'skip' to go on without them."
    )


def _gone(content: bytes, why: str) -> str:
    return (
        f"The file of the case {content.hex()[:12]} has changed since the dataset was opened: {why}. Put it back, or "
        "open the dataset again."
    )

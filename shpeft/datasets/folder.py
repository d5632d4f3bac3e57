"""Image files, found in folders or listed in a table, become a dataset."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from shpeft.datasets import table
from shpeft.datasets.base import Dataset, Split, make_dataset
from shpeft.datasets.card import size_tells_class, sizes
from shpeft.datasets.duplicates import clusters, look, near_pairs
from shpeft.datasets.layout import Found, Layout, discover, read_groups, read_subgroups
from shpeft.datasets.loading import THREADS
from shpeft.datasets.splitting import split_off
from shpeft.errors import EmptyDataset, Leakage, UnreadableImage
from shpeft.images import AS_FILED, Decoding, open_image
from shpeft.progress import Progress


@dataclass(frozen=True)
class Files:
    """Image files, each with the files of its lesion masks."""

    paths: tuple[Path, ...]
    masks: tuple[tuple[Path, ...], ...]
    decoding: Decoding = AS_FILED

    def image(self, index: int) -> Image.Image:
        """The image in RGB at its own size."""
        return open_image(self.paths[index], self.decoding)

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


@dataclass(frozen=True)
class Case:
    """One readable image of the folder; ``id`` is made of its content."""

    found: Found
    id: str
    group: str
    look: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """What reading a file gave: an id made of its content and how it looks, or why it cannot be read."""

    id: str = ""
    look: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""


def load(
    root: Path,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    decoding: Decoding,
    columns: Mapping[str, str],
    on_unreadable: Literal["skip", "refuse"],
    progress: Progress,
) -> Dataset:
    """Open a folder, or the images that a table lists, decoding every image once to see that it can be.

    Raises:
        DatasetError: the folder cannot be used; its subclasses say why.
    """
    layout, groups, warnings = _found(root, columns)
    readings = list(zip(layout.files, _read_all(layout.files, decoding, progress), strict=True))
    unreadable = [[file.name, reading.error] for file, reading in readings if reading.error]
    if unreadable and on_unreadable == "refuse":
        raise UnreadableImage(_refusal(root, unreadable))
    cases = [
        Case(
            file,
            reading.id,
            _opaque(groups[file.name]) if file.name in groups else reading.id,
            reading.look,
            reading.size,
        )
        for file, reading in readings
        if reading.look is not None
    ]
    if groups and (alone := sum(case.found.name not in groups for case in cases)):
        warnings.append(f"{alone} of the images have no group in the table; each of them is a group of its own.")
    cases = _without_copies(cases, warnings)
    _check_classes(root, layout, cases, len(unreadable))
    cases, near = _near_duplicates(cases, bool(groups), warnings)
    given = {name: [case for case in cases if case.found.split == name] for name in layout.splits}
    _check_leakage(given)
    splits, rule = _split(given, layout.classes, decoding, seed, val_fraction, test_fraction)
    pixels = np.array([case.size for case in cases])
    told = size_tells_class(pixels, np.array([layout.classes.index(case.found.label) for case in cases]))
    if not groups:
        warnings.append("No patients or groups are known: images of one patient may stand on both sides of a split.")
    return make_dataset(
        root.resolve().name,
        splits,
        rule,
        sizes=sizes(pixels),
        unreadable=unreadable,
        near_duplicates=near,
        warnings=warnings + [told] * bool(told),
    )


def _found(root: Path, columns: Mapping[str, str]) -> tuple[Layout, dict[str, str], list[str]]:
    """The images, the group of each that has one, and warnings."""
    tables = {"": root} if root.is_file() and root.suffix in table.SUFFIXES else {}
    if not tables and root.is_dir():
        tables = table.tables_of(root)
    if tables:
        layout, groups = table.discover(tables, columns)
        return layout, groups, list(layout.warnings)
    layout = discover(root)
    warnings = list(layout.warnings)
    subgroups = read_subgroups(root, table.COLUMNS["subgroup"])
    files = tuple(replace(file, subgroup=subgroups.get(file.name, "")) for file in layout.files)
    return replace(layout, files=files), read_groups(root, warnings), warnings


def _read_all(files: Sequence[Found], decoding: Decoding, progress: Progress) -> list[Reading]:
    """Decode every file once."""
    shown_as = b"" if decoding == AS_FILED else repr(decoding).encode()

    def read(file: Found) -> Reading:
        try:
            data = file.path.read_bytes()
            image = open_image(data, decoding)
        except OSError as error:
            return Reading(error=str(error.strerror or error))
        except UnreadableImage as error:
            return Reading(error=str(error).removeprefix("the uploaded file ").rstrip("."))
        return Reading(hashlib.sha256(data + shown_as).hexdigest()[:12], look(image), image.size)

    readings = []
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool:
        try:
            for reading in pool.map(read, files):
                readings.append(reading)
                progress("Checking images", len(readings), len(files))
        finally:
            pool.shutdown(cancel_futures=True)
    return readings


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
        subgroups=tuple(case.found.subgroup for case in cases) if any(case.found.subgroup for case in cases) else (),
        source=Files(tuple(case.found.path for case in cases), tuple(case.found.masks for case in cases), decoding),
    )


def _check_classes(root: Path, layout: Layout, cases: Sequence[Case], damaged: int) -> None:
    """Every class must still have an image in every split that the folder gives."""
    if not cases:
        raise EmptyDataset(
            f"None of the {damaged} image files of '{root.name}' can be read. Check how they were copied."
        )
    left = Counter((case.found.split, case.found.label) for case in cases)
    for split in layout.splits:
        for name in layout.classes:
            if not left[split, name]:
                raise EmptyDataset(
                    f"The class '{name}' of '{root.name}' has no usable image in {split} ({damaged} files of the"
                    " dataset are damaged). Repair or replace its files, or remove the class from every split."
                )


def _without_copies(cases: Sequence[Case], warnings: list[str]) -> list[Case]:
    """One case for each content within a split; a content under two labels is dropped altogether."""
    labels: dict[str, set[str]] = {}
    for case in cases:
        labels.setdefault(case.id, set()).add(case.found.label)
    agreed = [case for case in cases if len(labels[case.id]) == 1]
    kept = list({(case.found.split, case.id): case for case in reversed(agreed)}.values())[::-1]
    if len(agreed) < len(cases):
        warnings.append(f"{len(cases) - len(agreed)} images stand under two labels with the same content; left out.")
    if len(kept) < len(agreed):
        warnings.append(f"{len(agreed) - len(kept)} images are exact copies of others in their split; left out.")
    return kept


def _near_duplicates(cases: list[Case], grouped: bool, warnings: list[str]) -> tuple[list[Case], list[tuple[str, str]]]:
    """Cases that look the same become one group where no groups are known; their pairs, by id, and warnings of them."""
    pairs = near_pairs(np.stack([case.look for case in cases]))
    if not len(pairs):
        return cases, []
    warnings.append(f"{_count(len(pairs), 'pair')} of images look the same (re-saved copies, or very much alike).")
    across = sum(cases[a].found.split != cases[b].found.split for a, b in pairs)
    if across:
        warnings.append(
            f"{_count(across, 'pair')} of images that look the same stand{'s' * (across == 1)} on both sides of a given"
            " split: the test may be flattered."
        )
    if not grouped:
        members = clusters(len(cases), pairs)
        first = {number: cases[row].id for row, number in reversed(list(enumerate(members.tolist())))}
        # within a split as it is given: across one, the warning has to do
        sizes = np.bincount(members)
        cases = [
            replace(case, group=_opaque(f"{case.found.split} {first[number]}")) if sizes[number] > 1 else case
            for case, number in zip(cases, members.tolist(), strict=True)
        ]
    return cases, [(cases[a].id, cases[b].id) for a, b in pairs]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _check_leakage(given: dict[str, list[Case]]) -> None:
    """No image and no group may stand in two of the given splits."""
    homes: dict[str, Case] = {}
    for name, cases in given.items():
        for case in cases:
            for key, what in ((case.id, "the same image"), (case.group, "of the same group")):
                first = homes.setdefault(key, case)
                if first.found.split != name:
                    raise Leakage(
                        f"'{first.found.name}' and '{case.found.name}' are {what}, but stand in {first.found.split}"
                        f" and {name}: the test would be flattered. Move or remove one of them."
                    )


def _refusal(root: Path, unreadable: Sequence[Sequence[str]]) -> str:
    shown = "; ".join(f"{name} ({reason})" for name, reason in unreadable[:5])
    more = f" and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
    return (
        f"{len(unreadable)} image files of '{root.name}' cannot be read: {shown}{more}."
        " Repair or remove them, or set on_unreadable to 'skip' to go on without them."
    )


def _opaque(group: str) -> str:
    """A group's name may be a patient's: only its digest is kept."""
    return hashlib.sha256(group.encode()).hexdigest()[:12]

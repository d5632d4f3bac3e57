"""Folds: all images of a dataset are pooled, and one part of them is the test; drawn by patient, or by a column."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from shpeft.datasets.base import Dataset, DeepStore, ImageStore, Rows, Split, make_dataset
from shpeft.datasets.discover import natural
from shpeft.datasets.splitting import split_off
from shpeft.errors import DatasetError
from shpeft.images import NO_FACTS, Facts, Pixels, open_pixels
from shpeft.tasks import SingleLabel

FOLD = re.compile(r"(?:(site|fold):)?([1-9]\d*)/([1-9]\d*)")
"""``2/5``, ``site:2/3`` or ``fold:2/3``: the second part of five that are drawn, or of three values of a column."""

NAMED = ("name", "modality", "sizes", "unreadable", "contradictory", "unreadable_ids", "near_duplicates", "notice")
"""Entries of the card that hold for the pooled images, too."""


def with_fold(data: Dataset, fold: str, *, seed: int, val_fraction: float) -> Dataset:
    """Return a dataset whose test split is one fold of all its images; its given splits do not count.

    Args:
        data: a loaded dataset.
        fold: ``2/5``: the second of five parts, drawn by class and in whole groups; ``site:2/3`` and ``fold:2/3``: the
            images of the second of the three values of the column for subgroups, or for folds, in natural order.
        seed: of the parts and of the validation split. The parts do not depend on anything else.
        val_fraction: the share of the other images for validation.

    Raises:
        DatasetError: there is no such fold, no such column, or a class has too few groups.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", fold="2/3")
        >>> len(data.train), len(data.val), len(data.test)
        (18, 6, 12)
    """
    match = FOLD.fullmatch(fold)
    if match is None or int(match[2]) > int(match[3]) or int(match[3]) < 2:
        raise DatasetError(f"There is no fold {fold!r}. Give one such as 1/5, site:1/3 or fold:1/3.")
    column, number, count = match[1], int(match[2]), int(match[3])
    pool, warnings = _pooled(data)
    parts = draw_folds(pool, count, seed) if column is None else _by_value(pool, column, count)
    test = set(parts[number - 1])
    tested = {pool.groups[row] for row in test}
    others = [row for row in range(len(pool)) if row not in test]
    rows = [row for row in others if pool.groups[row] not in tested]
    if len(rows) < len(others):
        warnings.append(
            f"{len(others) - len(rows)} images of patients or groups that are tested are left out of training."
        )
    rest = pool.subset(rows, "train")
    if absent := [name for name, images in rest.counts().items() if not images]:
        raise DatasetError(f"All images of the class '{absent[0]}' are in fold {fold}: nothing could be learned of it.")
    strata = rest.task.strata(rest.labels, rest.classes)
    stay, leave = split_off(strata, rest.groups, val_fraction, seed, rest.classes)
    splits = [rest.subset(stay, "train"), rest.subset(leave, "val"), pool.subset(sorted(test), "test")]
    by = "by class, " if rest.task.drawn_by else ""
    drawn = f"drawn {by}whole groups, seed {seed}" if column is None else f"by the column for the {column}"
    rule = (
        f"test is fold {number} of {count} of all images, {drawn}; given splits do not count; val is "
        f"{val_fraction:.0%} of the other images, {rest.task.drawn_by}whole groups, seed {seed}."
    )
    card = {key: data.card[key] for key in NAMED if key in data.card}
    return make_dataset(splits=splits, split_rule=rule, warnings=warnings, **(card | {"name": data.name}))


def fold_count(data: Dataset, column: str) -> int:
    """Return the number of values of a column, ``site`` or ``fold``.

    Raises:
        DatasetError: there is no such column, or it has one value.
    """
    count = len(_values(_pooled(data)[0], column))
    if count < 2:
        raise DatasetError(f"All images have the same {column}: there is no other to leave out.")
    return count


def _values(pool: Split, column: str) -> list[str]:
    values = pool.subgroups if column == "site" else pool.folds
    if not values:
        usual = "site, hospital or subgroup" if column == "site" else "fold"
        raise DatasetError(
            f"The dataset has no {column}s: a table needs a column {usual} for them, or another one that columns name."
        )
    if blank := sum(not value for value in values):
        raise DatasetError(f"{blank} images have no {column} in the table. Complete the column, or remove the rows.")
    return sorted(set(values), key=natural)


def _by_value(pool: Split, column: str, count: int) -> list[list[int]]:
    """Return the rows of each value of a column."""
    values = _values(pool, column)
    if len(values) != count:
        raise DatasetError(f"The images are of {len(values)} {column}s, not {count}. Give a fold such as {column}:1/2.")
    own = pool.subgroups if column == "site" else pool.folds
    return [[row for row, value in enumerate(own) if value == name] for name in values]


def draw_folds(pool: Split, count: int, seed: int) -> list[list[int]]:
    """Draw parts of about the same size, in whole groups and, of single labels, with every class in each.

    Returns:
        the rows of each part, ascending.

    Raises:
        DatasetError: there are too few groups, or too few of a class.

    Examples:
        >>> import shpeft
        >>> train = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0).train
        >>> [len(rows) for rows in draw_folds(train, 3, seed=0)]
        [6, 6, 6]
    """
    groups = np.asarray(pool.groups)
    if (total := len(set(pool.groups))) < count:
        raise DatasetError(f"{total} patients or groups cannot be divided into {count} folds. Take fewer folds.")
    if not isinstance(pool.task, SingleLabel):
        rows = GroupKFold(count, shuffle=True, random_state=seed).split(groups, groups=groups)
        return [test.tolist() for _, test in rows]
    labels = np.asarray(pool.labels)
    for label, name in enumerate(pool.classes):
        if (few := len(set(groups[labels == label]))) < count:
            raise DatasetError(
                f"The class '{name}' has images of {few} patients or groups, too few for {count} folds with every "
                f"class in each. Take at most {max(2, few)} folds."
            )
    drawn = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, groups)
    parts = [test.tolist() for _, test in drawn]
    for number, part in enumerate(parts, start=1):
        if absent := sorted(set(range(len(pool.classes))) - set(labels[part].tolist())):
            raise DatasetError(
                f"Fold {number} of {count} would have no image of the class '{pool.classes[absent[0]]}', as its groups "
                "hold several classes. Take fewer folds."
            )
    return parts


def _pooled(data: Dataset) -> tuple[Split, list[str]]:
    """Return all images once, in the order of their ids, so that no fold depends on given splits; and warnings."""
    splits, order = data.splits, dict[str, tuple[int, int]]()
    for number, split in enumerate(splits):
        for row, case in enumerate(split.ids):
            order.setdefault(case, (number, row))
    at = [order[case] for case in sorted(order)]
    copies = sum(map(len, splits)) - len(at)
    warnings = [f"{copies} images are copies of others in another split; each is taken once."] * bool(copies)

    def column(name: str) -> tuple[Any, ...]:
        columns = [getattr(split, name) for split in splits]
        return tuple(columns[number][row] for number, row in at) if all(columns) else ()

    stores = tuple(split.source.store if isinstance(split.source, Rows) else split.source for split in splits)
    bases = [split.source.indices if isinstance(split.source, Rows) else range(len(split)) for split in splits]
    pool = replace(
        splits[0],
        name="all",
        labels=tuple(splits[number].labels[row] for number, row in at),
        ids=column("ids"),
        groups=column("groups"),
        source=Pool(stores, tuple((number, bases[number][row]) for number, row in at)),
        contents=column("contents"),
        subgroups=column("subgroups"),
        folds=column("folds"),
    )
    return pool, warnings


@dataclass(frozen=True)
class Pool:
    """Images of several stores, each as the number of its store and its row there."""

    stores: tuple[ImageStore, ...]
    rows: Sequence[tuple[int, int]]

    def image(self, index: int) -> Image.Image:
        """Return an image in RGB at its own size."""
        number, row = self.rows[index]
        return self.stores[number].image(row)

    def mask(self, index: int) -> np.ndarray | None:
        """Return the lesion mask, or None."""
        number, row = self.rows[index]
        return self.stores[number].mask(row)

    def pixels(self, index: int) -> Pixels:
        """Return an image with all its bits."""
        number, row = self.rows[index]
        store = self.stores[number]
        return store.pixels(row) if isinstance(store, DeepStore) else open_pixels(store.image(row))

    def facts(self, index: int) -> Facts:
        """Return what an image's file states about how it was made."""
        number, row = self.rows[index]
        store = self.stores[number]
        return store.facts(row) if isinstance(store, DeepStore) else NO_FACTS

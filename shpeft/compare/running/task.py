"""Tasks: a dataset with a seed, its capped splits, backbone, frozen features and linear probe."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shpeft.backbones import Backbone, create_backbone
from shpeft.compare.plan import Plan
from shpeft.compare.shifts import by_subgroup, check_unseen, corrupted, renamed
from shpeft.config import DatasetConfig
from shpeft.config.schema import Precision
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.datasets.base import make_dataset
from shpeft.errors import CannotSplit, ConfigError, SelectionError
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, CachedForward, split_below
from shpeft.importance.cross_fitted_heads import fit_cross_fitted_heads
from shpeft.linear_probe import CrossFittedHeads, fit_linear_probe
from shpeft.support.progress import Progress, silent


class FrozenForward(CachedForward):
    """The head on features of the frozen backbone, which are computed once an image."""

    def __init__(self, backbone: Backbone):
        super().__init__(BackboneSplit(backbone, backbone.head_name))

    def run(self, inputs: Tensor) -> Tensor:
        """Run the head on cached features."""
        logits: Tensor = self.backbone.head(inputs)
        return logits

    def features(self, inputs: Tensor) -> Tensor:
        """Return the inputs, which are the features."""
        return inputs

    def check(self, names: Iterable[str]) -> None:
        """Check that no weight of the backbone is trained.

        Raises:
            SelectionError: there is one.
        """
        if name := next(iter(names), None):
            raise SelectionError(f"{name} cannot be trained on the features of the frozen backbone.")


class Task:
    """A dataset with a seed.

    Attributes:
        data: the capped splits.
        shifted: the further test sets, by name.
        backbone: shared by all cells of the task, which leave it unchanged.
        frozen: the forward pass on features of the frozen backbone.
        probe: the linear probe, which every arm starts from.
    """

    def __init__(self, plan: Plan, root: Path, name: str, seed: int, progress: Progress = silent):
        self.name, self.seed = name, seed
        self.data = load_splits(plan, root, name, seed, progress)
        self.shifted = load_shifted(plan, root, name, seed, self.data, progress)
        backbone = plan.backbone_of(name)
        self.backbone = create_backbone(
            **(backbone.model_dump() | {"weights": resolve_path(backbone.weights, root)}),
            classes=self.data.classes,
            task=self.data.task,
        )
        self.frozen = FrozenForward(self.backbone)
        self.probe = fit_linear_probe(
            self.backbone, self.data.train, self.data.val, forward_pass=self.frozen, progress=progress
        )

    @cached_property
    def cross_fitted(self) -> CrossFittedHeads:
        """The heads of five folds of the training images, fitted on features of the frozen backbone on first use."""
        data = self.data
        return fit_cross_fitted_heads(self.backbone, data.train, data.val, seed=self.seed, forward_pass=self.frozen)

    def forward_pass(self, backbone: Backbone, names: Iterable[str], precision: Precision = "float32") -> ForwardPass:
        """Return the fastest forward pass for training these parameters; for none, the one for the head alone."""
        names = list(names)
        if not names:
            return self.frozen
        with suppress(CannotSplit):
            backbone_split = split_below(backbone, names)
            if backbone_split is not None:
                return CachedForward(backbone_split, precision=precision)
        return ForwardPass(backbone, precision)


class Tasks:
    """The tasks of a plan, created on first use; as many as there are datasets are held in memory."""

    def __init__(self, plan: Plan, root: str | Path, progress: Progress = silent):
        self.plan, self.root, self.progress = plan, Path(root), progress
        self._loaded: OrderedDict[tuple[str, int], Task] = OrderedDict()
        self._names: dict[str, str] = {}

    def get(self, name: str, seed: int) -> Task:
        """Return a task, which becomes the latest."""
        if (name, seed) not in self._loaded:
            # Some arms need the gradients of all datasets of a seed.
            while len(self._loaded) >= len(self.plan.datasets):
                self._loaded.popitem(last=False)
            task = self._loaded[name, seed] = Task(self.plan, self.root, name, seed, self.progress)
            self._check_pooled(name, task.data.task.name)
        self._loaded.move_to_end((name, seed))
        return self.latest

    def _check_pooled(self, name: str, task: str) -> None:
        """Check that pooled tuning adds validation losses of one task.

        Raises:
            ConfigError: another dataset has another task, whose losses are no like numbers.
        """
        other = next((n for n, known in self._names.items() if known != task), None)
        if self.plan.tune == "pooled" and other is not None:
            raise ConfigError(
                f"With tune: pooled the validation losses of all datasets are added, and the task of {name} is {task}, "
                f"that of {other} {self._names[other]}. Use tune: first, or a plan for each task."
            )
        self._names[name] = task

    @property
    def latest(self) -> Task:
        """The task that was used last."""
        return self._loaded[next(reversed(self._loaded))]


def load_splits(plan: Plan, root: Path, name: str, seed: int, progress: Progress = silent) -> Dataset:
    """Load the images of a dataset, at most as many of a class as the plan allows."""
    return _load(plan, plan.datasets[name], root, seed, progress)


def load_shifted(
    plan: Plan, root: Path, name: str, seed: int, data: Dataset, progress: Progress = silent
) -> dict[str, Split]:
    """Return the further test sets of a dataset by name, subgroups each by their own.

    Raises:
        ClassMismatch, DatasetError: the images cannot be used so.
    """
    shifted = dict[str, Split]()
    for title, shift in plan.shifts_of(name).items():
        if shift.corruption is not None:
            shifted[title] = corrupted(data.test, shift.corruption, shift.severity)
        elif shift.external is not None:
            other = _load(plan, shift.external, root, seed, progress)
            shifted[title] = renamed(other.test, shift.classes, data.test)
            check_unseen(title, shifted[title], data.splits[:2])
        else:
            shifted |= {f"{title}: {subgroup}": split for subgroup, split in by_subgroup(data.test)}
    return shifted


def _load(plan: Plan, config: DatasetConfig, root: Path, seed: int, progress: Progress) -> Dataset:
    caps = plan.images_per_class.model_dump()
    settings = config.model_dump() | {"source": resolve_path(config.source, root)}
    if plan.tested_on == "training":
        settings |= {"val_fraction": 0.5}
    data = load_dataset(**settings, seed=seed, progress=progress)
    return halve_training(data, caps, seed) if plan.tested_on == "training" else cap_classes(data, caps, seed)


def resolve_path(source: str, root: Path) -> str:
    """Resolve a relative path of the plan from the data's root; return anything else unchanged."""
    path = root / source
    return str(path) if path.exists() else source


def cap_classes(data: Dataset, caps: dict[str, int | None], seed: int) -> Dataset:
    """Draw at most ``caps`` cases of each class in each split; the test cases do not depend on the seed."""
    splits = []
    for split in data.splits:
        cap = caps[split.name]
        splits.append(split if cap is None else _cap(split, cap, 0 if split.name == "test" else seed))
    return _rebuild(data, splits, str(data.card["split_rule"]))


def halve_training(data: Dataset, caps: dict[str, int | None], seed: int) -> Dataset:
    """Split the validation images into a part to validate on and a part that stands in for the test images.

    The test images are not used. The two parts may share patients, as the validation loss only chooses epochs and
    learning rates.
    """
    rng = np.random.default_rng(seed)

    def of_each_class(split: Split, *parts: Callable[[int], slice]) -> list[Split]:
        labels, rows = _strata(split), [list[int]() for _ in parts]
        for label in range(labels.max(initial=-1) + 1):
            order = rng.permutation(np.flatnonzero(labels == label))
            for selected, part in zip(rows, parts, strict=True):
                selected += order[part(len(order))].tolist()
        return [split.subset(sorted(selected)) for selected in rows]

    def validating(n: int) -> int:
        return min(caps["val"] or n, n // 3)

    def end(n: int) -> int | None:
        return None if caps["test"] is None else validating(n) + caps["test"]

    (train,) = of_each_class(data.train, lambda n: slice(caps["train"]))
    val, test = of_each_class(data.val, lambda n: slice(validating(n)), lambda n: slice(validating(n), end(n)))
    splits = [train, val, replace(test, name="test")]
    return _rebuild(data, splits, "half of the training images stands in for the test images")


def _rebuild(data: Dataset, splits: list[Split], rule: str) -> Dataset:
    return make_dataset(data.name, splits, rule, modality=data.card["modality"], notice=data.card["notice"])


def _cap(split: Split, cap: int, seed: int) -> Split:
    labels, rng = _strata(split), np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:cap] for c in range(labels.max(initial=-1) + 1)]
    return split.subset(sorted(np.concatenate(chosen).tolist()))


def _strata(split: Split) -> NDArray[np.int64]:
    """Return (N,) the class that each case counts for: of several findings the rarest, of numbers the same for all."""
    strata = split.task.strata(split.labels, split.classes)
    number = Counter(stratum for own in strata for stratum in own)
    rarest = [min(own, key=lambda stratum: (number[stratum], stratum), default=len(split.classes)) for own in strata]
    return np.asarray(rarest, dtype=np.int64)

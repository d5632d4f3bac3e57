"""A dataset with a seed, ready to be fine-tuned on: capped splits, backbone, frozen features and linear probe."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from shpeft.backbones import Backbone, create_backbone
from shpeft.compare.plan import Plan
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.datasets.base import make_dataset
from shpeft.errors import CannotCut, SelectionError
from shpeft.feed import Feed, Precision
from shpeft.prefix import CachedFeed, Cut, cut_below
from shpeft.probe import fit_head
from shpeft.progress import Progress, silent


class FrozenFeed(CachedFeed):
    """What the head sees, computed once an image: only the head can be trained on it."""

    def __init__(self, backbone: Backbone):
        super().__init__(Cut(backbone, backbone.head_name))

    def run(self, inputs: Tensor) -> Tensor:
        """The head."""
        logits: Tensor = self.backbone.head(inputs)
        return logits

    def features(self, inputs: Tensor) -> Tensor:
        """What is fed is what the head sees."""
        return inputs

    def check(self, names: Iterable[str]) -> None:
        """Refuse to train anything but the head.

        Raises:
            SelectionError: a weight of the backbone.
        """
        if name := next(iter(names), None):
            raise SelectionError(f"{name} cannot be trained on the features of the frozen backbone.")


class Task:
    """A dataset with a seed.

    Attributes:
        backbone: shared by all cells of the task, which leave it as it was.
        frozen: the features of the frozen backbone.
        probe: the linear probe: every arm's head start.
    """

    def __init__(self, plan: Plan, root: Path, name: str, seed: int, progress: Progress = silent):
        self.name, self.seed = name, seed
        self.data = self.load(plan, root, progress)
        self.backbone = create_backbone(
            plan.backbone.name,
            classes=self.data.classes,
            weights=located(plan.backbone.weights, root),
            image_size=plan.backbone.image_size,
        )
        self.frozen = FrozenFeed(self.backbone)
        self.probe = fit_head(self.backbone, self.data.train, self.data.val, feed=self.frozen, progress=progress)

    def load(self, plan: Plan, root: Path, progress: Progress) -> Dataset:
        """The images, no more of a class than the plan wants."""
        wanted, caps = plan.datasets[self.name], plan.images_per_class.model_dump()
        settings = wanted.model_dump() | {"source": located(wanted.source, root)}
        if plan.tested_on == "training":
            half = load_dataset(**settings | {"val_fraction": 0.5}, seed=self.seed, progress=progress)
            return halved(half, caps, self.seed)
        return capped(load_dataset(**settings, seed=self.seed, progress=progress), caps, self.seed)

    def feed(self, backbone: Backbone, names: Iterable[str], precision: Precision = "float32") -> Feed:
        """The quickest feed for training these parameters of the backbone, or of a copy; without any, the head."""
        names = list(names)
        if not names:
            return self.frozen
        with suppress(CannotCut):
            cut = cut_below(backbone, names)
            if cut is not None:
                return CachedFeed(cut, precision=precision)
        return Feed(backbone, precision)


class Tasks:
    """The tasks of a plan, made when they are first asked for; as many as there are datasets are kept."""

    def __init__(self, plan: Plan, root: str | Path, progress: Progress = silent):
        self.plan, self.root, self.progress = plan, Path(root), progress
        self._held: OrderedDict[tuple[str, int], Task] = OrderedDict()

    def get(self, name: str, seed: int) -> Task:
        """A task."""
        if (name, seed) not in self._held:
            # All of one seed stay: some arms ask for the others' gradients.
            while len(self._held) >= len(self.plan.datasets):
                self._held.popitem(last=False)
            self._held[name, seed] = Task(self.plan, self.root, name, seed, self.progress)
        self._held.move_to_end((name, seed))
        return self.present

    @property
    def present(self) -> Task:
        """The task that was asked for last."""
        return self._held[next(reversed(self._held))]


def located(source: str, root: Path) -> str:
    """A path of the plan, found from the root of the data; what is no path there stays as it is."""
    path = root / source
    return str(path) if path.exists() else source


def capped(data: Dataset, caps: dict[str, int | None], seed: int) -> Dataset:
    """At most so many cases of each class in each split: a seeded choice, but of the test cases always the same."""
    splits = []
    for split in data.splits:
        cap = caps[split.name]
        splits.append(split if cap is None else _cap(split, cap, 0 if split.name == "test" else seed))
    return _remade(data, splits, str(data.card["split_rule"]))


def halved(data: Dataset, caps: dict[str, int | None], seed: int) -> Dataset:
    """The training images, and of the validation images a part to validate on and a part in place of test images.

    The test images are not looked at. The two parts may share patients: a validation loss chooses epochs and rates.
    """
    rng = np.random.default_rng(seed)

    def of_each_class(split: Split, *parts: Callable[[int], slice]) -> list[Split]:
        labels, rows = np.asarray(split.labels), [list[int]() for _ in parts]
        for label in range(len(data.classes)):
            order = rng.permutation(np.flatnonzero(labels == label))
            for found, part in zip(rows, parts, strict=True):
                found += order[part(len(order))].tolist()
        return [split.subset(sorted(found)) for found in rows]

    def validating(n: int) -> int:
        return min(caps["val"] or n, n // 3)

    def end(n: int) -> int | None:
        return None if caps["test"] is None else validating(n) + caps["test"]

    (train,) = of_each_class(data.train, lambda n: slice(caps["train"]))
    val, test = of_each_class(data.val, lambda n: slice(validating(n)), lambda n: slice(validating(n), end(n)))
    splits = [train, val, replace(test, name="test")]
    return _remade(data, splits, "half of the training images stands in for the test images")


def _remade(data: Dataset, splits: list[Split], rule: str) -> Dataset:
    return make_dataset(data.name, splits, rule, modality=data.card["modality"], notice=data.card["notice"])


def _cap(split: Split, cap: int, seed: int) -> Split:
    labels, rng = np.asarray(split.labels), np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:cap] for c in range(len(split.classes))]
    return split.subset(sorted(np.concatenate(chosen).tolist()))

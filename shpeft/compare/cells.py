"""The cells of a comparison, and the keys by which finished cells are recognized."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from shpeft.compare.arm import TRAINING_SETTINGS, UNTRAINED, Arm, Budget, Rate
from shpeft.compare.plan import Plan
from shpeft.config import Section

FORMAT = 2
"""Part of every cell's key: raise it when the meaning of a result changes."""

KEYED_ELSEWHERE = ("lr", "budgets", *TRAINING_SETTINGS)
"""Settings of an arm that enter a key in another part, or that a trial's own learning rate replaces."""


@dataclass(frozen=True)
class Cell:
    """One result of a comparison: an arm with a budget on a dataset with a seed (and a random mask).

    Attributes:
        plan: the plan that the cell belongs to; it does not count when cells are compared.
        budget: a share of the backbone's weights, or a count; None for an arm without a budget.
        mask: the number of the random selection, from 0.
        several: whether its plan is one of those for several numbers of training images.
        images: the largest number of training images of a class, which the plan gives; None: all.
    """

    plan: Plan = field(compare=False, repr=False)
    dataset: str
    arm: str
    budget: Budget | None
    seed: int
    mask: int = 0
    several: bool = field(default=False, compare=False, repr=False)
    images: int | None = field(init=False)

    def __post_init__(self) -> None:
        """Take the number of training images from the plan.

        Raises:
            ValueError: the plan has several numbers, of which a cell has one.
        """
        images = self.plan.images_per_class.train
        if isinstance(images, tuple):
            raise ValueError("a cell is of a plan with one number of training images: take one of plan.by_images")
        object.__setattr__(self, "images", images)

    @property
    def title(self) -> str:
        """The cell in words: ``busi, seed 0, random 0.0001, mask 2``."""
        budget = "" if self.budget is None else f" {self.budget:g}"
        mask = f", mask {self.mask + 1}" if self.mask else ""
        images = f" with {self.images} images a class" if self.several else ""
        return f"{self.dataset}{images}, seed {self.seed}, {self.arm}{budget}{mask}"

    @property
    def dense_cell(self) -> "Cell | None":
        """The cell of kind full whose changes this one reverts or selects by; None for most cells."""
        arm = self.plan.arms[self.arm]
        of = arm.of if arm.like is None else self.plan.arms[arm.like].of
        return None if of is None else replace(self, arm=of, budget=None, mask=0)

    @property
    def candidates(self) -> "list[Cell]":
        """The cells of which this one takes the best, arm by arm and budget by budget; empty for most cells."""
        plan = self.plan
        entries = [(name, size) for name in plan.arms[self.arm].among for size in plan.sizes(plan.arms[name])]
        return [replace(self, arm=name, budget=size, mask=0) for name, size in entries]

    @property
    def tuning_cells(self) -> "list[Cell]":
        """The cells whose trials choose the learning rate that this one is trained with; often the cell itself."""
        plan, arm = self.plan, self.plan.arms[self.arm]
        if arm.kind == "revert":
            return replace(self, arm=str(arm.of), budget=None, mask=0).tuning_cells
        if plan.tune == "pooled":
            seeds = plan.tune_seeds or plan.seeds[:2]
            return [replace(self, dataset=name, seed=seed, mask=0) for seed in seeds for name in plan.datasets]
        return [replace(self, seed=plan.seeds[0] if plan.tune == "first" else self.seed, mask=0)]

    @property
    def tuned_alike(self) -> "list[Cell]":
        """The cells of the plan with the same learning rate by the same trials, this one among them."""
        trials = self.tuning_cells
        alike = (c for c in list_cells(self.plan) if (c.arm, c.budget) == (trials[0].arm, trials[0].budget))
        return [c for c in alike if c.tuning_cells == trials]

    @property
    def key(self) -> str:
        """The first 16 digits of the SHA-256 of every setting that the result depends on; arms' names do not count."""
        plan, arm = self.plan, self.plan.arms[self.arm]
        trained = arm.kind not in UNTRAINED
        tuned: dict[str, Any] | None = None
        if trained and plan.tune == "pooled":
            tuned = {
                "rates": plan.rates(arm, self.budget),
                "seeds": plan.tune_seeds or plan.seeds[:2],
                "datasets": [_changed_settings(dataset) for dataset in plan.datasets.values()],
                **({"image_sizes": plan.image_sizes} if plan.image_sizes else {}),
            }
        elif trained:
            heads = {"heads": plan.head_lrs} if plan.head_lrs else {}
            tuned = {"grid": plan.grid(arm, self.budget), "seed": self.tuning_cells[0].seed} | heads
        shifts = {"shifts": self._shifts} if self._shifts else {}
        return _digest(self._key_parts(arm) | {"tuned": tuned} | shifts)

    def trial_key(self, rate: Rate) -> str:
        """Return the key of this cell's training with one choice of learning rates."""
        head = {} if rate.head_lr is None else {"head": rate.head_lr}
        return _digest(self._key_parts(self.plan.arms[self.arm]) | {"trial": rate.lr} | head)

    def training_key(self, rate: Rate) -> str:
        """Return the key of the same training with the same evaluation: cells that share it have equal results."""
        key = self.trial_key(rate)
        return _digest([key, self._shifts]) if self._shifts else key

    @property
    def _shifts(self) -> dict[str, Any]:
        """The settings of the further test sets; which datasets they are for is no part of a result."""
        shifts = self.plan.shifts_of(self.dataset)
        return {name: _changed_settings(shift, "datasets") for name, shift in shifts.items()}

    def _key_parts(self, arm: Arm) -> dict[str, Any]:
        plan = self.plan
        parts: dict[str, Any] = {
            "format": FORMAT,
            "backbone": _changed_settings(plan.backbone_of(self.dataset)),
            "dataset": _changed_settings(plan.datasets[self.dataset]),
            "caps": _changed_settings(plan.images_per_class),
            **({} if plan.tested_on == "test" else {"tested_on": plan.tested_on}),
            "training": _changed_settings(plan.settings(arm)) if arm.kind not in ("probe", "choice") else None,
            "arm": _changed_settings(arm, *KEYED_ELSEWHERE, "of", "like", "among", "masks"),
            "budget": self.budget,
            "seed": self.seed,
            "mask": self.mask,
        }
        if arm.like is not None:
            parts["like"] = _changed_settings(plan.arms[arm.like], *KEYED_ELSEWHERE, "of")
        if arm.among:
            parts["among"] = [candidate.key for candidate in self.candidates]
        if self.dense_cell is not None:
            parts["of"] = self.dense_cell.key
        if "consensus" in (arm.score, arm.agnostic) or arm.gradients == "other":
            parts["others"] = [_changed_settings(dataset) for dataset in plan.datasets.values()]
        return parts


def list_cells(plan: Plan) -> list[Cell]:
    """List a plan's cells in the order in which they are run: seed by seed, then dataset by dataset.

    Of several numbers of training images a class, each seed has the smallest one first.
    """
    plans = plan.by_images
    return [
        Cell(own, dataset, name, budget, seed, mask, several=len(plans) > 1)
        for seed in plan.seeds
        for own in plans
        for dataset in plan.datasets
        for name, arm in plan.arms.items()
        for budget in plan.sizes(arm)
        for mask in range(arm.masks)
    ]


def _changed_settings(section: Section, *without: str) -> dict[str, Any]:
    """Return the settings that differ from their defaults: a setting added later changes no finished cell's key."""
    return section.model_dump(exclude_defaults=True, exclude=set(without))


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

"""The schema of a comparison, and the cells that it is made of."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from shpeft.config import SCOPES, BackboneConfig, DatasetConfig, Document, Section

FORMAT = 2
"""Part of every cell's key: a change to what a cell's result depends on raises it."""

KINDS = ("probe", "head", "full", "bitfit", "lora", "sparse", "revert")

Budget = Annotated[int | float, Field(gt=0)]

Grid = tuple[float, ...] | dict[float, tuple[float, ...]]
"""Learning rates; or some for each budget, since more weights want smaller steps."""


class Caps(Section):
    """At most so many images of each class, the same for all arms; none: all."""

    train: int | None = Field(None, ge=1)
    val: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


class Training(Section):
    """How every arm is trained."""

    epochs: int = Field(8, ge=1)
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a lower validation loss")
    batch_size: int = Field(16, ge=1)
    head_lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    eps: float = Field(1e-8, gt=0, description="AdamW's ε")
    augment: Literal["none", "flip"] = "none"
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of training; scores are in float32")


class Arm(Section):
    """A way to fine-tune; what is not given is taken from the plan's ``training``, ``budgets`` and ``grids``."""

    kind: Literal["probe", "head", "full", "bitfit", "lora", "sparse", "revert"]
    lr: Grid | None = Field(None, description="learning rates that are tried on the validation images")
    epochs: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=0, description="0: train to the last epoch")
    head_lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    eps: float | None = Field(None, gt=0)
    precision: Literal["float32", "bfloat16"] | None = None
    refit_head: bool = Field(False, description="fit the head anew on the fine-tuned features at the end")
    views: Literal[1, 2] = Field(1, description="2: test probabilities are means over the image and its mirror image")
    scope: str = Field("", pattern=f"^(|{SCOPES})$", description="which weights are eligible")
    budgets: tuple[Budget, ...] | None = None

    rank: int = Field(8, ge=1, description="of lora")
    targets: Literal["qkv", "all"] = Field("qkv", description="linear layers that lora adapts")

    of: str | None = Field(None, description="of revert: the arm whose largest changes are kept")

    score: Literal["hybrid", "gradient", "fisher", "magnitude", "wanda", "random", "consensus"] = "hybrid"
    order: Literal["largest", "smallest"] = Field("largest", description="which end of the scores is selected")
    formula: Literal["product", "sum", "quota"] = "product"
    norm: Literal["l1", "l2"] = "l1"
    lam: float = Field(0.5, ge=0, le=1)
    normaliser: Literal["mean", "max", "rank"] = "mean"
    agnostic: Literal["magnitude", "consensus"] = Field("magnitude", description="the hybrid's task-agnostic half")
    gradients: Literal["own", "other", "shuffled"] = Field(
        "own", description="controls: gradients of the next dataset, or of this one with its labels shuffled"
    )
    like: str | None = Field(None, description="of score random: the arm whose counts in each layer are kept")
    images: int = Field(256, ge=1, description="training images that the scores are estimated on")
    expectation: Literal["batch", "image", "all"] = "batch"
    spread: Literal["row", "line", "none"] = Field(
        "none", description="row: as few weights of a row as the budget allows; line: one of a row and column at most"
    )
    masks: int = Field(1, ge=1, description="how many random selections a seed")
    lr_scale: Literal["uniform", "magnitude", "rms"] = "uniform"
    reselect_after: int | None = Field(None, ge=1, description="epochs after which weights are selected once more")
    average: int | None = Field(
        None, ge=2, description="keep the mean of the weights after the last so many epochs, not the best epoch's"
    )

    @property
    def eligible(self) -> str:
        """The scope that is meant: all weights for full fine-tuning, the matrices of blocks for sparse training."""
        return self.scope or ("matrices" if self.kind == "sparse" else "all")


class Claim(Section):
    """What the report is about; it decides no cell."""

    title: str = "Comparison"
    method: str | None = Field(None, description="the arm that is held against all others; by default the first sparse")
    budget: Budget | None = Field(None, description="its budget; by default the first")
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "mcc"] = "balanced_accuracy"
    margin: float = Field(0.01, gt=0, lt=1, description="differences below it do not matter: of the equivalence test")
    gain: float = Field(0.02, gt=0, lt=1, description="what the method should gain over the better floor")
    hardware: str = Field("", description="what the table was filled on, such as '2 processors, no GPU'")
    tried: tuple[str, ...] = Field((), description="what was tried besides, said where the report says what failed")
    pairs: dict[str, tuple[str, str]] = Field(
        default_factory=dict, description="for a dataset two classes that are also told apart by themselves"
    )


class Overlaps(Section):
    """Which choices of weights are compared with each other; it decides no cell."""

    arms: tuple[str, ...] = Field((), description="sparse arms whose supports are compared")
    budgets: tuple[Budget, ...] = (1e-4, 1e-2)


class Plan(Document):
    """Arms × seeds × datasets × budgets."""

    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    datasets: dict[str, DatasetConfig] = Field(min_length=1)
    images_per_class: Caps = Field(default_factory=Caps)
    tested_on: Literal["test", "training"] = Field(
        "test", description="training: half of the training images stands in for the test images, to try variants on"
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    budgets: tuple[Budget, ...] = Field((1e-4,), min_length=1)
    training: Training = Field(default_factory=Training)
    grids: dict[Literal["head", "full", "bitfit", "lora", "sparse"], Grid] = Field(default_factory=dict)
    tune: Literal["each", "first"] = Field(
        "each", description="whether each seed tries the learning rates, or the first seed's choice serves all"
    )
    arms: dict[str, Arm] = Field(min_length=1)
    report: Claim = Field(default_factory=Claim)
    overlaps: Overlaps = Field(default_factory=Overlaps)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        trials: dict[tuple[str, int], None] = {}
        for name, arm in self.arms.items():
            sizes = [size for size in self.sizes(arm) if size is not None]
            if isinstance(arm.lr, dict) and (strange := [size for size in arm.lr if size not in sizes]):
                has = f"its budgets are {', '.join(f'{size:g}' for size in sizes)}" if sizes else "it has no budgets"
                raise ValueError(f"arm {name} has learning rates{_at(strange[0])}; {has}")
            if arm.kind not in ("probe", "revert"):
                trials |= {(name, len(self.grid(arm, budget))): None for budget in self.sizes(arm)}
            for other in (arm.like, arm.of):
                if other is not None and (other == name or other not in self.arms):
                    raise ValueError(f"arm {name} refers to {other!r}; the arms are {', '.join(self.arms)}")
            if arm.kind == "revert" and (arm.of is None or self.arms[arm.of].kind != "full"):
                raise ValueError(f"arm {name} reverts nothing: give 'of', an arm of kind full")
            if arm.like is not None and (arm.score != "random" or self.arms[arm.like].kind != "sparse"):
                raise ValueError(f"arm {name}: 'like' is for score random and names a sparse arm")
            if len(self.datasets) < 2 and ("consensus" in (arm.score, arm.agnostic) or arm.gradients == "other"):
                raise ValueError(f"arm {name} needs gradients of another dataset, and there is only one")
            if arm.reselect_after and arm.reselect_after >= (arm.epochs or self.training.epochs):
                raise ValueError(f"arm {name} selects anew after {arm.reselect_after} epochs, when training is over")
            if arm.average and arm.kind not in ("head", "sparse"):
                raise ValueError(f"arm {name}: 'average' is for the kinds head and sparse, not {arm.kind}")
            twins = [twin for twin, settings in self.arms.items() if settings == arm and twin != name]
            if twins:
                raise ValueError(f"arms {name} and {twins[0]} are the same")
        if self.report.method is not None and self.report.method not in self.arms:
            raise ValueError(f"the report is about {self.report.method!r}; the arms are {', '.join(self.arms)}")
        for name in self.overlaps.arms:
            if name not in self.arms or self.arms[name].kind != "sparse":
                raise ValueError(f"overlaps compare sparse arms, and {name!r} is none")
        if len({count for _, count in trials}) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in trials)
            raise ValueError(f"arms try different numbers of learning rates, which is unfair: {counts}")
        return self

    def sizes(self, arm: Arm) -> tuple[Budget | None, ...]:
        """The budgets of an arm; a single None for a kind that has none."""
        return (arm.budgets or self.budgets) if arm.kind in ("sparse", "revert") else (None,)

    def grid(self, arm: Arm, budget: Budget | None) -> tuple[float, ...]:
        """The learning rates that an arm tries with a budget: its own, or else the plan's for its kind."""
        common = next((grid for kind, grid in self.grids.items() if kind == arm.kind), None)
        found = _rates(arm.lr, budget) or _rates(common, budget)
        if not found:
            raise ValueError(
                f"there are no learning rates for kind {arm.kind}{_at(budget)}: give grids.{arm.kind}, or the arm's lr"
            )
        return found

    def settings(self, arm: Arm) -> Training:
        """How an arm is trained: the plan's settings, with the arm's own over them."""
        own = {name: getattr(arm, name) for name in OWN}
        return self.training.model_copy(update={name: value for name, value in own.items() if value is not None})

    def cells(self) -> list["Cell"]:
        """Every cell, in the order in which they are best run: one seed after the other, dataset by dataset."""
        found = []
        for seed in self.seeds:
            for dataset in self.datasets:
                for name, arm in self.arms.items():
                    for budget in self.sizes(arm):
                        for mask in range(arm.masks):
                            found.append(Cell(self, dataset, name, budget, seed, mask))
        return found

    def tuning(self, cell: "Cell") -> "Cell":
        """The cell whose learning rate a cell takes: itself, where it tries the rates."""
        arm = self.arms[cell.arm]
        if arm.kind == "revert":
            return self.tuning(Cell(self, cell.dataset, str(arm.of), None, cell.seed))
        seed = self.seeds[0] if self.tune == "first" else cell.seed
        return Cell(self, cell.dataset, cell.arm, cell.budget, seed)


@dataclass(frozen=True)
class Cell:
    """One number of the comparison: an arm with a budget on a dataset with a seed (and a random mask)."""

    plan: Plan = field(compare=False, repr=False)
    dataset: str
    arm: str
    budget: int | float | None
    seed: int
    mask: int = 0

    @property
    def title(self) -> str:
        """For people."""
        sized = "" if self.budget is None else f" {self.budget:g}"
        return f"{self.dataset}, seed {self.seed}, {self.arm}{sized}" + (f", mask {self.mask + 1}" if self.mask else "")

    @property
    def key(self) -> str:
        """SHA-256 of all that determines the result, as far as the plan tells; names of arms do not."""
        plan, arm = self.plan, self.plan.arms[self.arm]
        trained = arm.kind not in ("probe", "revert")
        tuned = {"grid": plan.grid(arm, self.budget), "seed": plan.tuning(self).seed} if trained else None
        return _digest(self._parts(arm) | {"tuned": tuned})

    def trial_key(self, lr: float) -> str:
        """The same for one training at one learning rate."""
        return _digest(self._parts(self.plan.arms[self.arm]) | {"trial": lr})

    def _parts(self, arm: Arm) -> dict[str, Any]:
        plan = self.plan
        parts: dict[str, Any] = {
            "format": FORMAT,
            "backbone": _given(plan.backbone),
            "dataset": _given(plan.datasets[self.dataset]),
            "caps": _given(plan.images_per_class),
            **({} if plan.tested_on == "test" else {"tested_on": plan.tested_on}),
            "training": _given(plan.settings(arm)) if arm.kind != "probe" else None,
            "arm": _given(arm, *TUNING, "of", "like", "masks"),
            "budget": self.budget,
            "seed": self.seed,
            "mask": self.mask,
        }
        if arm.like is not None:
            parts["like"] = _given(plan.arms[arm.like], *TUNING)
        if arm.of is not None:
            parts["of"] = Cell(plan, self.dataset, arm.of, None, self.seed).key
        if "consensus" in (arm.score, arm.agnostic) or arm.gradients == "other":
            parts["others"] = [_given(other) for other in plan.datasets.values()]
        return parts


OWN = ("epochs", "patience", "head_lr", "weight_decay", "eps", "precision")
"""Settings of training that an arm may have of its own."""

TUNING = ("lr", "budgets", *OWN)
"""Settings of an arm that stand elsewhere in a key, or that a trial's own learning rate replaces."""


def _rates(grid: Grid | None, budget: Budget | None) -> tuple[float, ...] | None:
    if isinstance(grid, dict):
        return None if budget is None else grid.get(budget)
    return grid


def _at(budget: Budget | None) -> str:
    return "" if budget is None else f" at {budget:g}"


def _given(section: Section, *without: str) -> dict[str, Any]:
    """What differs from the defaults: a setting that is added later leaves the keys of finished cells alone."""
    return section.model_dump(exclude_defaults=True, exclude=set(without))


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

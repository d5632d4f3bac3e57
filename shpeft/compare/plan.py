"""The schema of a comparison: arms × seeds × datasets × budgets, and what its report is about."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from shpeft.compare.arm import TRAINING_SETTINGS, UNTRAINED, Arm, Budget, Grid, Rate, TrainedKind, Training
from shpeft.compare.arm_checks import at_budget, check_arm
from shpeft.compare.measures import IN_UNIT
from shpeft.compare.report_schema import BASELINE, ReportConfig
from shpeft.compare.shifts import Shift
from shpeft.config import BackboneConfig, DatasetConfig, Document, Section
from shpeft.config.schema import SCOPES, read_input_size
from shpeft.support.image_size import ImageSize
from shpeft.support.markdown import plain


class Caps(Section):
    """The largest number of images of a class in each split, the same for all arms; none: all images.

    An image with several findings counts for the rarest of them, and images with a number are all of one class.
    """

    train: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="Several numbers, such as 5, 10, 20: every arm is trained with each of them."
    )
    val: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


class Overlaps(Section):
    """The supports that are compared with each other; no cell depends on it."""

    arms: tuple[str, ...] = Field((), description="Sparse arms whose supports are compared.")
    budgets: tuple[Budget, ...] = (1e-4, 1e-2)


class Plan(Document):
    """A comparison: arms × seeds × datasets × budgets, and the questions that its report answers."""

    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    datasets: dict[str, DatasetConfig] = Field(min_length=1)
    image_sizes: dict[str, Annotated[ImageSize, BeforeValidator(read_input_size)]] = Field(
        default_factory=dict, description="Datasets whose images enter the backbone at another size than its own."
    )
    images_per_class: Caps = Field(default_factory=Caps)
    tested_on: Literal["test", "training"] = Field(
        "test", description="With training, half of the training images replaces the test images, to try variants."
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    budgets: tuple[Budget, ...] = Field((1e-4,), min_length=1)
    training: Training = Field(default_factory=Training)
    grids: dict[TrainedKind, Grid] = Field(default_factory=dict)
    tune: Literal["each", "first", "pooled"] = Field(
        "each",
        description="Whether each seed tunes the learning rate, all use the one that the first seed chose, or an arm "
        "has one rate at each budget, with the lowest validation loss summed over all datasets and tune_seeds.",
    )
    tune_seeds: tuple[int, ...] = Field((), description="For pooled: the seeds that tune; by default the first two.")
    scope: str = Field(
        "", pattern=f"^(|{SCOPES})$", description="Eligible weights of sparse arms without a scope of their own."
    )
    head_lrs: tuple[float, ...] = Field(
        (), description="Learning rates of the head that are tried with each learning rate; none: head_lr."
    )
    arms: dict[str, Arm] = Field(min_length=1)
    shifts: dict[str, Shift] = Field(
        default_factory=dict,
        description="Further test sets, on which every finished training is evaluated beside the test images.",
    )
    report: ReportConfig = Field(default_factory=ReportConfig)
    overlaps: Overlaps = Field(default_factory=Overlaps)

    @model_validator(mode="before")
    @classmethod
    def _scope_of_arms(cls, raw: Any) -> Any:
        """Give sparse arms the plan's scope; one with the counts of another arm draws from that arm's weights."""
        if not isinstance(raw, dict) or not raw.get("scope") or not isinstance(raw.get("arms"), dict):
            return raw

        def scoped(arm: Any) -> Any:
            draws = isinstance(arm, dict) and arm.get("kind") == "sparse" and not arm.get("like")
            return arm | {"scope": arm.get("scope") or raw["scope"]} if draws else arm

        return raw | {"arms": {name: scoped(arm) for name, arm in raw["arms"].items()}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (*self.datasets, *self.arms, *self.shifts, *self.report.names.values()):
            if plain(name) != name:  # reports are Markdown, and pages show it
                raise ValueError(f"the name {name!r} would not be shown as written; use letters, digits, - and spaces")
        for name, arm in self.arms.items():
            check_arm(self, name, arm)
        numbers = self.images_per_class.train
        if isinstance(numbers, tuple) and (len(numbers) < 2 or list(numbers) != sorted(set(numbers))):
            raise ValueError("images_per_class.train lists numbers that do not rise: give one number, or each once")
        if isinstance(numbers, tuple) and self.overlaps.arms:
            raise ValueError("overlaps compare supports for one number of training images: leave overlaps.arms out")
        for name, shift in self.shifts.items():
            if unknown := [dataset for dataset in shift.datasets if dataset not in self.datasets]:
                raise ValueError(f"shift {name} is for {unknown[0]!r}; the datasets are {', '.join(self.datasets)}")
        if self.image_sizes and self.overlaps.arms:
            raise ValueError("overlaps compare supports for images of one size: leave overlaps.arms or image_sizes out")
        if unknown := [dataset for dataset in self.image_sizes if dataset not in self.datasets]:
            raise ValueError(f"image_sizes names {unknown[0]!r}; the datasets are {', '.join(self.datasets)}")
        self._check_numbers_of_rates()
        self._check_report()
        return self

    def _check_numbers_of_rates(self) -> None:
        trained = ((name, arm) for name, arm in self.arms.items() if arm.kind not in UNTRAINED)
        numbers = {(name, len(self.rates(arm, budget))): None for name, arm in trained for budget in self.sizes(arm)}
        if len({number for _, number in numbers}) > 1:
            listed = ", ".join(f"{name} {number}" for name, number in numbers)
            raise ValueError(f"arms try different numbers of learning rates, which is unfair: {listed}")

    def _check_report(self) -> None:
        arms = ", ".join(self.arms)
        if self.report.method is not None and self.report.method not in self.arms:
            raise ValueError(f"the report is about {self.report.method!r}; the arms are {arms}")
        for name in self.overlaps.arms:
            if name not in self.arms or self.arms[name].kind != "sparse":
                raise ValueError(f"overlaps compare supports of sparse arms; {name!r} is not a sparse arm")
            if self.arms[name].prune_from is not None:
                raise ValueError(f"overlaps compare supports before training, and {name!r} has its own after pruning")
        if strange := [name for name in self.report.rows if name not in self.arms]:
            raise ValueError(f"the report's rows name {strange[0]!r}; the arms are {arms}")
        for question in self.report.questions:
            if question.by is not None and question.by >= 1 and (question.metric or self.report.metric) not in IN_UNIT:
                raise ValueError(
                    f"a question says by {question.by:g}, which is no fraction: give one below 1, or for an error in a "
                    f"unit its metric, {', '.join(m for m in IN_UNIT if m != 'bias')}"
                )
            if question.kind in ("better", "not_worse") and question.than is None:
                raise ValueError(f"a question of kind {question.kind} needs 'than': an arm, or {BASELINE!r}")
            if question.primary and question.kind not in ("better", "not_worse"):
                raise ValueError(f"a question of kind {question.kind} is primary, which is for better and not_worse")
            known = (None, BASELINE, *self.arms)
            if unknown := [name for name in (question.arm, question.than) if name not in known]:
                raise ValueError(f"a question names {unknown[0]!r}; the arms are {arms}")

    @property
    def by_images(self) -> "tuple[Plan, ...]":
        """The plan for each of its numbers of training images a class, in their order; for a single one itself."""
        caps = self.images_per_class
        if not isinstance(caps.train, tuple):
            return (self,)
        each = (caps.model_copy(update={"train": number}) for number in caps.train)
        return tuple(self.model_copy(update={"images_per_class": own}) for own in each)

    def backbone_of(self, dataset: str) -> BackboneConfig:
        """Return the backbone with the size that a dataset's images have for it."""
        if dataset not in self.image_sizes:
            return self.backbone
        return self.backbone.model_copy(update={"image_size": self.image_sizes[dataset]})

    @property
    def input_sizes(self) -> str:
        """The sizes of images in words: ``112 px (fundus 224 px)``."""
        own = ", ".join(f"{name} {size} px" for name, size in self.image_sizes.items())
        return f"{self.backbone.image_size or 'its own'} px" + (f" ({own})" if own else "")

    def shifts_of(self, dataset: str) -> dict[str, Shift]:
        """Return the further test sets of a dataset."""
        return {name: shift for name, shift in self.shifts.items() if dataset in (shift.datasets or self.datasets)}

    def sizes(self, arm: Arm) -> tuple[Budget | None, ...]:
        """Return the budgets of an arm; a single None for a kind without budgets."""
        return (arm.budgets or self.budgets) if arm.kind in ("sparse", "revert") else (None,)

    def grid(self, arm: Arm, budget: Budget | None) -> tuple[float, ...]:
        """Return the learning rates that an arm tries with a budget: its own, or else the plan's for its kind."""
        common = next((grid for kind, grid in self.grids.items() if kind == arm.kind), None)
        rates = _rates(arm.lr, budget) or _rates(common, budget)
        if not rates:
            raise ValueError(
                f"there are no learning rates for kind {arm.kind}{at_budget(budget)}: give grids.{arm.kind}, or the "
                "arm's lr"
            )
        return rates

    def rates(self, arm: Arm, budget: Budget | None) -> tuple[Rate, ...]:
        """Return what an arm tries with a budget: its grid, each with all of ``head_lrs``.

        The head alone has a grid of its own, and an arm with its own ``head_lr`` keeps it.
        """
        heads = self.head_lrs if arm.kind != "head" and arm.head_lr is None else ()
        return tuple(Rate(lr, head) for lr in self.grid(arm, budget) for head in heads or (None,))

    def settings(self, arm: Arm) -> Training:
        """Return how an arm is trained: the plan's settings, overridden by the arm's own."""
        own = {name: getattr(arm, name) for name in TRAINING_SETTINGS}
        return self.training.model_copy(update={name: value for name, value in own.items() if value is not None})


def _rates(grid: Grid | None, budget: Budget | None) -> tuple[float, ...] | None:
    if isinstance(grid, dict):
        return None if budget is None else grid.get(budget)
    return grid

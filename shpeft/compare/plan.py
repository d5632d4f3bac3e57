"""The schema of a comparison: arms × seeds × datasets × budgets, and what its report is about."""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from shpeft.compare.arm_checks import at_budget, check_arm
from shpeft.compare.measures import IN_UNIT
from shpeft.compare.shifts import Shift
from shpeft.config import BackboneConfig, DatasetConfig, Document, RunConfig, Section, SelectionConfig, TrainingConfig
from shpeft.config.documents import same_as
from shpeft.config.schema import (
    SCOPES,
    Augmentation,
    Average,
    Balance,
    Expectation,
    Formula,
    Modality,
    Norm,
    Normalizer,
    Precision,
    Score,
    Spread,
    read_budget,
    read_input_size,
)
from shpeft.support.image_size import ImageSize
from shpeft.support.markdown import plain

Budget = Annotated[int | float, BeforeValidator(read_budget), Field(gt=0)]
"""A share of the backbone's weights (a decimal), or a number of weights (a whole number)."""

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auroc",
    "mcc",
    "brier",
    "log_loss",
    "brier_calibrated",
    "quadratic_kappa",
    "grade_error",
    "macro_average_precision",
    "mae",
    "rmse",
    "r2",
]

UNTRAINED = ("probe", "revert", "choice")
"""Kinds of arm without a training of their own."""

TrainedKind = Literal["head", "full", "bitfit", "ln-tune", "layerscale", "lora", "vera", "sparse"]
"""Kinds of arm with a learning rate."""

BASELINE = "baseline"
"""In a question: the better of the linear probe and the head trained alone."""

Grid = tuple[float, ...] | dict[float, tuple[float, ...]]
"""Learning rates, or learning rates by budget: more weights need smaller steps."""

VARIATION = ("augment", "modality", "mixup", "label_smoothing", "balance")
"""Settings of how training images, their labels and the frequency of classes vary."""

TRAINING_SETTINGS = (
    *("epochs", "patience", "head_lr", "weight_decay", "warmup", "eps", "precision", "keep_start"),
    *VARIATION,
)
"""Settings of the plan's ``training`` that an arm may override."""


class Rate(NamedTuple):
    """Learning rates of a trial: of the trained weights, and of the head where it is tuned as well."""

    lr: float
    head_lr: float | None = None


class Caps(Section):
    """The largest number of images of a class in each split, the same for all arms; none: all images.

    An image with several findings counts for the rarest of them, and images with a number are all of one class.
    """

    train: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="Several numbers, such as 5, 10, 20: every arm is trained with each of them."
    )
    val: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1)


class Training(Section):
    """How every arm is trained; what a run has too is declared in its schema."""

    epochs: int = same_as(TrainingConfig, "epochs", 8)
    patience: int | None = Field(None, ge=1, description="Stop after so many epochs without a lower validation loss.")
    batch_size: int = same_as(TrainingConfig, "batch_size")
    head_lr: float = same_as(TrainingConfig, "head_lr")
    weight_decay: float = same_as(TrainingConfig, "weight_decay")
    warmup: float = same_as(TrainingConfig, "warmup")
    eps: float = Field(1e-8, gt=0, description="ε of AdamW.")
    average: Average = same_as(TrainingConfig, "average")
    keep_start: bool = Field(
        False, description="Whether the linear probe competes with the epochs, as in a run; the first tables did not."
    )
    augment: Augmentation = same_as(TrainingConfig, "augment")
    modality: Modality = same_as(TrainingConfig, "modality")
    mixup: float = same_as(TrainingConfig, "mixup")
    label_smoothing: float = same_as(TrainingConfig, "label_smoothing")
    balance: Balance = same_as(TrainingConfig, "balance")
    precision: Precision = same_as(RunConfig, "precision")

    @property
    def variation(self) -> dict[str, Any]:
        """The settings of :data:`VARIATION` by name."""
        return {name: getattr(self, name) for name in VARIATION}


class Arm(Section):
    """A way to fine-tune; what is not given is taken from the plan's ``training``, ``budgets`` and ``grids``."""

    kind: TrainedKind | Literal["probe", "revert", "choice"]
    lr: Grid | None = Field(None, description="Learning rates that are tried on the validation images.")
    epochs: int | None = same_as(TrainingConfig, "epochs", None)
    patience: int | None = Field(None, ge=0, description="As the plan's; 0: train to the last epoch.")
    head_lr: float | None = same_as(TrainingConfig, "head_lr", None)
    weight_decay: float | None = same_as(TrainingConfig, "weight_decay", None)
    warmup: float | None = same_as(TrainingConfig, "warmup", None)
    eps: float | None = same_as(Training, "eps", None)
    keep_start: bool | None = same_as(Training, "keep_start", None)
    precision: Precision | None = same_as(RunConfig, "precision", None)
    augment: Augmentation | None = same_as(TrainingConfig, "augment", None)
    modality: Modality | None = same_as(TrainingConfig, "modality", None)
    mixup: float | None = same_as(TrainingConfig, "mixup", None)
    label_smoothing: float | None = same_as(TrainingConfig, "label_smoothing", None)
    balance: Balance | None = same_as(TrainingConfig, "balance", None)
    initial_head: Literal["probe", "random"] = Field(
        "probe", description="For kind full: the head that training begins with, the linear probe or random weights."
    )
    refit_head: bool = Field(False, description="Fit the head again on the fine-tuned features at the end.")
    views: Literal[1, 2] = Field(1, description="2: average the test probabilities of an image and its mirror image.")
    scope: str = Field("", pattern=f"^(|{SCOPES})$", description=SelectionConfig.model_fields["scope"].description)
    budgets: tuple[Budget, ...] | None = None

    rank: int = Field(8, ge=1, description="Rank of LoRA or VeRA.")
    targets: Literal["qkv", "all"] = Field("qkv", description="Linear layers that LoRA or VeRA adapts.")

    of: str | None = Field(
        None,
        description="The arm of kind full whose changes Δw count: the largest remain (kind revert), or select the "
        "weights that are trained from the pretrained ones (score or agnostic change).",
    )

    among: tuple[str, ...] = Field(
        (), description="For kind choice: the arms of which one is taken by its validation images, simplest first."
    )
    rule: Literal["lowest", "first"] = Field(
        "lowest",
        description="For kind choice: the lowest validation loss, or the first arm whose loss cannot be told from it.",
    )

    score: Score | Literal["consensus", "step", "change"] = same_as(SelectionConfig, "score")
    step_size: float | None = Field(
        None, gt=0, description="For score step: α, how far every weight is expected to move, in units of weight."
    )
    order: Literal["largest", "smallest"] = Field("largest", description="Which end of the scores is selected.")
    formula: Formula = same_as(SelectionConfig, "formula")
    norm: Norm = same_as(SelectionConfig, "norm")
    lam: float = same_as(SelectionConfig, "lam")
    normalizer: Normalizer = same_as(SelectionConfig, "normalizer")
    exponent: float = same_as(SelectionConfig, "exponent")
    agnostic: Literal["magnitude", "consensus", "change"] = Field(
        "magnitude",
        description="Task-agnostic half of the hybrid; change: |Δw| of the arm in 'of' instead, so that the product is "
        "|Δw·g|.",
    )
    gradients: Literal["own", "other", "shuffled"] = Field(
        "own", description="Controls: gradients of the next dataset, or of this one with its labels shuffled."
    )
    heads: Literal["fitted", "cross-fitted"] = Field(
        "fitted",
        description="Heads under which gradients are taken: the linear probe, or for each image the one of five that "
        "was fitted without it.",
    )
    like: str | None = Field(None, description="For score random: the arm whose counts per layer are used.")
    images: int = same_as(SelectionConfig, "images")
    expectation: Expectation = same_as(SelectionConfig, "expectation", "batch")
    spread: Spread | Literal["line"] = Field(
        "none",
        description=f"{SelectionConfig.model_fields['spread'].description} line: at most one of a row or column.",
    )
    count_exponent: float | None = Field(
        None,
        ge=0,
        le=4,
        description="Exponent b: a parameter gets weights in proportion to the sum of its scores to the power b, and "
        "the largest scores within it are selected; none: the largest scores of all parameters.",
    )
    masks: int = Field(1, ge=1, description="Random selections per seed.")
    members: int = Field(
        1,
        ge=1,
        description="Trainings of the same images and selection that differ in the seed of order and augmentation; the "
        "mean of their probabilities is the prediction.",
    )
    posterior: Literal["laplace"] | None = Field(
        None,
        description="laplace: average the probabilities over a linearized Laplace posterior of the trained values, by "
        "Monte Carlo.",
    )
    wise: float | None = Field(
        None,
        ge=0,
        le=1,
        description="α of WiSE-FT: what is evaluated is θ0 + α·Δ, between the linear probe and the trained weights, "
        "the head alike.",
    )
    lr_scale: Literal["uniform", "magnitude", "rms", "sensitivity"] = Field(
        "uniform", description="What the learning rate of each weight is proportional to."
    )
    prune_from: Budget | None = Field(
        None, description="Budget that training begins with; its first half prunes it to the arm's, epoch by epoch."
    )
    reselect_after: int | None = Field(None, ge=1, description="Epochs after which weights are selected again.")
    average: Annotated[int, Field(ge=2)] | Average | None = Field(
        None, description="As the plan's, or the number of last epochs whose weights are averaged."
    )

    @property
    def eligible(self) -> str:
        """The scope that is meant: all weights for full fine-tuning, the matrices of blocks for sparse training."""
        return self.scope or ("matrices" if self.kind == "sparse" else "all")

    @property
    def selects_changes(self) -> bool:
        """Whether weights are selected by the changes of full fine-tuning."""
        return self.kind == "sparse" and (self.score == "change" or (self.score, self.agnostic) == ("hybrid", "change"))


class Question(Section):
    """A question that the report answers from intervals, by the rule of its kind.

    The kinds: ``better`` and ``not_worse`` compare two arms; ``retains`` asks what the largest changes of full
    fine-tuning retain of its gain; ``shared_weights`` and ``own_weights`` ask whether tasks, or seeds of one task,
    select the same weights; ``magnitude_predicts`` asks whether magnitude ranks weights as the tasks' consensus does.
    """

    kind: Literal["better", "not_worse", "retains", "shared_weights", "own_weights", "magnitude_predicts"]
    arm: str | None = Field(
        None, description="The arm in question; by default the report's method, or every arm that fits the kind."
    )
    than: str | None = Field(
        None, description="The arm that it is compared with; baseline: the better of linear probe and head alone."
    )
    by: float | None = Field(
        None,
        gt=0,
        description="For better: the smallest gain that counts; for not_worse: its margin. A fraction, or of errors in "
        "a unit so much of the unit.",
    )
    metric: Metric | Literal["ece", "ece_calibrated"] | None = Field(None, description="By default the report's.")
    topic: str = Field("", description="What the comparison tells, put before the question.")
    primary: bool = Field(
        False,
        description="For better and not_worse: the question decides the comparison, so that its p value is adjusted "
        "for all such questions by Holm's method, and its answer is on the page.",
    )
    share: float = Field(0.9, gt=0, le=1, description="For retains: the share of the gain.")
    yes_from: float = Field(
        0.5, description="For magnitude_predicts: the rank correlation from which the answer is yes."
    )
    no_below: float = Field(0.1, description="For magnitude_predicts: the rank correlation below which it is no.")


class ReportConfig(Section):
    """What the report is about; no cell depends on it."""

    title: str = "Comparison"
    method: str | None = Field(
        None, description="The arm that is compared with all others; by default the first sparse one."
    )
    budget: Budget | None = Field(None, description="The method's budget; by default its first.")
    metric: Metric | None = Field(
        None,
        description="What arms are compared by; by default, and where a task does not have it, the task's main metric: "
        "balanced_accuracy, of ordered classes quadratic_kappa, of several findings macro_auroc, of numbers mae.",
    )
    margin: float = Field(0.01, gt=0, lt=1, description="The margin of equivalence: smaller differences do not matter.")
    margin_in_unit: float | None = Field(
        None,
        gt=0,
        description="The same for errors in grades or in a number's unit; by default their equivalence is not tested.",
    )
    question: str = Field("", description="What the page asks, in a sentence or two.")
    claim: str = Field("", description="What the paper states, with its source.")
    rows: tuple[str, ...] = Field((), description="Arms of the page's table; by default those that questions name.")
    meaning: tuple[str, ...] = Field((), description="What the results mean, and for whom, without numbers.")
    limits: tuple[str, ...] = Field((), description="Limits beside those that the records show.")
    questions: tuple[Question, ...] = Field((), description="The questions that the report answers.")
    names: dict[str, str] = Field(default_factory=dict, description="Plain names of arms for the summary.")
    hardware: str = Field("", description="What the table was filled on, such as '2 processors, no GPU'.")
    tried: tuple[str, ...] = Field((), description="Further experiments, listed where the report says what failed.")
    pairs: dict[str, tuple[str, str]] = Field(
        default_factory=dict, description="For a dataset, two classes that are also evaluated by themselves."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_gain(cls, raw: Any) -> Any:
        """Accept older plans, whose ``gain`` is now ``by`` of a question."""
        return {key: value for key, value in raw.items() if key != "gain"} if isinstance(raw, dict) else raw


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

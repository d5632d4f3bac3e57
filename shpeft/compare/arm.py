"""The schema of an arm of a comparison: a way to fine-tune, and how it is trained."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from shpeft.config import RunConfig, Section, SelectionConfig, TrainingConfig
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
)

Budget = Annotated[int | float, BeforeValidator(read_budget), Field(gt=0)]
"""A share of the backbone's weights (a decimal), or a number of weights (a whole number)."""

UNTRAINED = ("probe", "revert", "choice")
"""Kinds of arm without a training of their own."""

TrainedKind = Literal["head", "full", "bitfit", "ln-tune", "layerscale", "lora", "vera", "sparse"]
"""Kinds of arm with a learning rate."""

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


class Training(Section):
    """How every arm is trained; what a run has too is declared in its schema."""

    epochs: int = same_as(TrainingConfig, "epochs", 8)
    patience: int | None = Field(None, ge=1, description="Stop after so many epochs without a lower validation loss.")
    batch_size: int = same_as(TrainingConfig, "batch_size")
    head_lr: float = same_as(TrainingConfig, "head_lr")
    weight_decay: float = same_as(TrainingConfig, "weight_decay")
    warmup: float = same_as(TrainingConfig, "warmup")
    eps: float = Field(1e-8, gt=0, description="ε of AdamW.")
    average: Average = same_as(TrainingConfig, "average", "none")
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

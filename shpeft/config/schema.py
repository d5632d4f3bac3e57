"""The settings of a run, each declared once: name, type, bounds, default, option, label, choices and help.

The YAML files, the command line's options, the app's form, the defaults of the library's functions and the reference
in the documentation are derived from these fields. A field's option is its name, unless a ``Parameter`` names another.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter
from pydantic import AliasChoices, BeforeValidator, Field

from shpeft.config.documents import Document, Section, read_mapping
from shpeft.config.presets import PRESETS, SETTINGS_OF_OLD_RUNS
from shpeft.support.image_size import ImageSize, height_and_width, read_image_size

EMBEDDED = "embedded"
"""The name of the backbone that ships with shpeft."""

CONFIDENCE = 0.9
"""Of the promise about the class that must not be missed; 0.95 would need 59 validation cases of it in place of 45."""

SCOPES = r"all|blocks|matrices|last:([1-9]\d*|[1-9]\d?%)"
"""Which weights are eligible, as a pattern."""

LEAST_SIDE, LARGEST_SIDE = 16, 2048
"""Pixels of each side of a model's input."""

AUTO: Final = "auto"
"""A budget that is chosen on the validation images."""

Budget = int | float | Literal["auto"]
Column = Literal["path", "label", "split", "group", "subgroup", "fold"]
TaskName = Literal["auto", "single-label", "multi-label", "ordinal", "regression"]
Uncertain = Literal["ignore", "zeros", "ones"]
Blank = Literal["zeros", "ignore"]
OnUnreadable = Literal["skip", "refuse"]
OnLeakage = Literal["report", "drop", "refuse"]
Score = Literal["hybrid", "gradient", "fisher", "magnitude", "wanda", "random"]
Formula = Literal["product", "sum", "quota"]
Norm = Literal["l1", "l2"]
Normalizer = Literal["mean", "max", "rank"]
Expectation = Literal["batch", "image", "all"]
Spread = Literal["row", "none"]
Augmentation = Literal["none", "flip", "light", "medium", "strong"]
Modality = Literal[
    "auto",
    "general",
    "chest-xray",
    "ct",
    "mri",
    "ultrasound",
    "fundus",
    "oct",
    "dermoscopy",
    "histopathology",
    "microscopy",
]
Balance = Literal["none", "loss", "sampling"]
Average = Literal["auto", "none", "last_quarter"]
Steps = Literal["uniform", "sensitivity"]
Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
Checkpointing = Literal["auto", "always", "never"]
SeriesRule = Literal["highest-risk", "mean", "attention"]
"""How one answer is made of those to the slices of a series, see :mod:`shpeft.batch.series_rules`."""
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Setting:
    """How the app shows a setting.

    Attributes:
        label: the widget's label.
        choices: the label of each value; of text, the values that are offered beside free input.
        applies: when the setting has an effect: values of other settings of its section, by their names.
        advanced: whether a first run can do without it.
        step: what a click on plus or minus adds.
    """

    label: str
    choices: Mapping[str, str] = field(default_factory=dict)
    applies: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    advanced: bool = True
    step: float | None = None


def read_budget(value: Any) -> Any:
    """Read a budget as people write it: a whole number is a count; a decimal point or % makes a share, as in 1.0.

    Raises:
        ValueError: text that is neither a number nor ``auto``, a number that is not above 0, or a share above 1.

    Examples:
        >>> [read_budget(text) for text in ("2000", "2e3", "1", "1e-4", "0.01%", "100%", "1.0", "auto")]
        [2000, 2000, 1, 0.0001, 0.0001, 1.0, 1.0, 'auto']
    """
    written = value
    if isinstance(value, str) and value.strip() == AUTO:
        return AUTO
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*(%?)\s*", value)
        if match is None:
            raise ValueError(
                f"the budget {value!r} is not a number; give a share such as 1e-4 or 0.01%, a count, or auto"
            )
        number = float(match[1])
        whole = "." not in match[1] and number >= 1 and number.is_integer()  # 2000 and 2e3
        value = number / 100 if match[2] else int(number) if whole else number
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{written} is no budget: at least one weight has to change; give a share, a count, or auto")
    if isinstance(value, float) and value > 1:
        count = f"; write {int(value)} for that number of weights" if value == int(value) else ""
        raise ValueError(f"{written} is a share of more than all weights; the largest share is 1.0 or 100%{count}")
    return value


def read_columns(value: Any) -> Any:
    """Read ``path=image,label=dx`` as a dictionary.

    Raises:
        ValueError: a part without an equals sign.
    """
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals and name.strip() and column.strip() for name, equals, column in pairs):
        raise ValueError("give columns as path=image,label=dx,group=patient")
    return {name.strip(): column.strip() for name, _, column in pairs}


def read_model_args(value: Any) -> Any:
    """Read ``init_values=1e-5,global_pool=avg``, a list of such parts, or a mapping as the parts, sorted by name.

    Raises:
        ValueError: a part without an equals sign, or two values of one argument.
    """
    if isinstance(value, Mapping):
        value = [f"{name}={_plain(setting)}" for name, setting in value.items()]
    if isinstance(value, str):
        value = [value]
    pairs = [part.partition("=") for text in value for part in str(text).split(",") if part.strip()]
    if not all(equals and name.strip() and text.strip() for name, equals, text in pairs):
        raise ValueError("give arguments of the model as name=value, such as init_values=1e-5")
    parts = {(name.strip(), text.strip()) for name, _, text in pairs}
    if len({name for name, _ in parts}) < len(parts):
        raise ValueError("an argument of the model has two values; give each name once")
    return tuple(f"{name}={text}" for name, text in sorted(parts))


def read_channels(value: Any) -> Any:
    """Read ``0.485,0.456,0.406``, or one number for all channels, as three numbers; empty text is None.

    Raises:
        ValueError: text that is not a number.
    """
    if isinstance(value, str | int | float):
        value = [value]
    if value is None:
        return None
    try:
        numbers = [float(part) for text in value for part in str(text).split(",") if part.strip()]
    except ValueError:
        raise ValueError("give one number, or three such as 0.485,0.456,0.406") from None
    return (numbers * 3 if len(numbers) == 1 else numbers) or None


def read_input_size(value: Any) -> Any:
    """Read the size of a model's input: a side, ``HEIGHTxWIDTH`` or a pair; None and empty text are the model's own.

    Raises:
        ValueError: text that is no size, or a side out of range.

    Examples:
        >>> [read_input_size(size) for size in (224, "224x448", "224x224", "")]
        [224, '224x448', 224, None]
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    size = read_image_size(value)
    if any(not LEAST_SIDE <= side <= LARGEST_SIDE for side in height_and_width(size)):
        raise ValueError(f"each side of the image size must have {LEAST_SIDE} to {LARGEST_SIDE} pixels")
    return size


def _checkpointing(value: object) -> object:
    """Read the truth values of older files."""
    return {True: "always", False: "never"}[value] if isinstance(value, bool) else value


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class BackboneConfig(Section):
    """The pretrained model that is adapted."""

    name: Annotated[str, Parameter("--backbone"), Setting("Backbone", advanced=False)] = Field(
        EMBEDDED,
        description="A timm model's name, 'hf-hub:OWNER/NAME', 'local-dir:FOLDER' (config.json and weights), or "
        "'embedded' for the one that ships with shpeft.",
    )
    weights: Annotated[str, Setting("Pretrained weights", advanced=False)] = Field(
        "pretrained",
        description="'pretrained' (timm's weights, from this computer's cache or the model hub), 'random' (untrained, "
        "for trials only), or the path of a .safetensors file.",
    )
    model_args: Annotated[
        tuple[str, ...],
        BeforeValidator(read_model_args),
        Parameter("--model-arg"),
        Setting("Arguments of the model"),
    ] = Field(
        (),
        description="Arguments of the timm model that the weights need, such as init_values=1e-5 (LayerScale), "
        "global_pool=avg, reg_tokens=4 or class_token=false.",
    )
    image_size: Annotated[
        ImageSize | None,
        BeforeValidator(read_input_size),
        Setting("Image size (or height x width)", advanced=False),
    ] = Field(
        None,
        description="Model input in pixels: the side of a square, such as 224, or height x width, such as 224x448. "
        "Smaller is faster.",
    )
    mean: Annotated[
        Channels | None, BeforeValidator(read_channels), Parameter(n_tokens=1), Setting("Mean of each channel")
    ] = Field(
        None,
        description="Mean that is subtracted from each channel, for values from 0 to 1; by default that of the "
        "pretrained weights.",
    )
    std: Annotated[
        Channels | None,
        BeforeValidator(read_channels),
        Parameter(n_tokens=1),
        Setting("Standard deviation of each channel"),
    ] = Field(
        None,
        description="Standard deviation that each channel is divided by; by default that of the pretrained weights.",
    )


class DatasetConfig(Section):
    """The images, and how they are read and split."""

    source: Annotated[str, Parameter("--data"), Setting("Dataset", advanced=False)] = Field(
        "phantom:fundus",
        description="A folder, a table, 'recipe:NAME=FOLDER', 'medmnist:NAME' or 'phantom:NAME'.",
    )
    task: Annotated[
        TaskName,
        Setting(
            "Task",
            {
                "auto": "Automatic: from the labels",
                "single-label": "One class an image",
                "multi-label": "Several findings an image",
                "ordinal": "One of several ordered classes, such as grades",
                "regression": "A number an image, such as an age, from a table",
            },
        ),
    ] = Field(
        "auto",
        description="What a label is: single-label (one class an image), multi-label (findings that may occur "
        "together), ordinal (ordered classes, such as grades; numbers in their names give the order) or regression (a "
        "number, from a table's column such as value, age or 'diameter [mm]'); auto: multi-label where a table lists "
        "findings (A|B in a cell, or a column of 0 and 1 for each), else single-label.",
    )
    uncertain: Annotated[
        Uncertain,
        Setting("Uncertain findings (-1)", {"ignore": "Leave out", "zeros": "Absent", "ones": "Present"}),
    ] = Field(
        "ignore",
        description="Findings that a table marks as uncertain, -1 as in CheXpert: ignore (they count neither in the "
        "loss nor in a metric), zeros (absent) or ones (present).",
    )
    blank: Annotated[Blank, Setting("Blank cells of findings", {"zeros": "Absent", "ignore": "Leave out"})] = Field(
        "zeros",
        description="Blank cells in a table's columns of findings: zeros (absent, as CheXpert's labels are read) or "
        "ignore (unknown).",
    )
    val_fraction: Annotated[float, Setting("Share for validation", step=0.05)] = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the training images held out to choose the best epoch, where there is no validation "
        "split.",
    )
    test_fraction: Annotated[float, Setting("Share for the test", step=0.05)] = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the images held out until the end, where there is no test split.",
    )
    fold: Annotated[str, Setting("Fold that is tested")] = Field(
        "",
        pattern=r"^(|((site|fold):)?[1-9]\d*/[1-9]\d*)$",
        description="Test one part of all images, whatever splits are given: 2/5 (the second of five parts, drawn by "
        "class and patient), site:2/3 (the second of three sites, by the column for subgroups) or fold:2/3 (by the "
        "column fold).",
    )
    window: Annotated[
        str,
        Setting(
            "Window of 16-bit and DICOM images",
            {"auto": "Automatic: the file's own window", "full": "Full range of the file"},
        ),
    ] = Field(
        "auto",
        description="Values of 16-bit and DICOM images shown from black to white: 'auto' (the file's own window), "
        "'full' (its whole range), LOW:HIGH in the file's units, or the name of a CT window.",
    )
    frame: Annotated[int | None, Setting("Frame")] = Field(
        None,
        ge=0,
        description="Frame of images with several, counted from 0. Without it, the middle frame of a DICOM is read, "
        "and a TIFF with several is refused.",
    )
    columns: Annotated[
        dict[Column, str], BeforeValidator(read_columns), Parameter(accepts_keys=False), Setting("Columns of a table")
    ] = Field(
        default_factory=dict,
        description="Names of a table's columns, such as path=image,label=dx,group=patient, where they are not path, "
        "label, split, patient_id, subgroup and fold.",
    )
    on_unreadable: Annotated[
        OnUnreadable, Setting("Damaged images", {"skip": "List and leave out", "refuse": "Refuse the dataset"})
    ] = Field("skip", description="Leave damaged images out, or refuse the dataset.")
    leakage: Annotated[
        OnLeakage,
        Setting(
            "Images or patients in both training and test",
            {
                "report": "Report and continue",
                "drop": "Leave them out of training",
                "refuse": "Refuse the dataset",
            },
        ),
    ] = Field(
        "report",
        description="Images, patients and near-duplicates in several of the given splits make the test look better "
        "than it is: report them, drop the copy on the training side, or refuse the dataset.",
    )
    cache: Annotated[bool, Parameter("--image-cache"), Setting("Cache resized images")] = Field(
        True,
        description="Keep resized images on this computer for the next run, without file names and readable only by "
        "you.",
    )


class SelectionConfig(Section):
    """How the weights are scored, and how many may change."""

    budget: Annotated[
        Budget, BeforeValidator(read_budget), Setting("How much of the backbone may change", advanced=False)
    ] = Field(
        1e-4,
        description="Weights that training may change: a share of all weights (1e-4 or 0.01%; 1.0 or 100% is "
        "all), a whole number, or 'auto', which trains with 0.01, 0.1 and 1 % and takes the lowest validation loss. "
        "All others stay as they are, bit for bit; the classifier is always trained.",
    )
    score: Annotated[
        Score,
        Setting(
            "Score",
            {
                "hybrid": "Hybrid: task-specific and task-agnostic",
                "gradient": "Gradient: task-specific, absolute",
                "fisher": "Fisher: task-specific, squared",
                "magnitude": "Magnitude: task-agnostic, needs no images",
                "wanda": "Wanda: magnitude times the norm of the input",
                "random": "Random: a control",
            },
        ),
    ] = Field("hybrid", description="How the importance of a weight is measured; the highest scores are trained.")
    formula: Annotated[
        Formula,
        Setting(
            "Formula",
            {
                "product": "Product of both halves for every weight",
                "sum": "Weighted sum of both halves",
                "quota": "A quota for each half",
            },
            applies={"score": ("hybrid",)},
        ),
    ] = Field("product", description="How the hybrid score joins its task-specific and its task-agnostic half.")
    norm: Annotated[
        Norm,
        Setting("Norm", {"l1": "L1: absolute values", "l2": "L2: squares"}, applies={"score": ("hybrid", "magnitude")}),
    ] = Field("l1", description="Absolute values (l1) or squares (l2) of weights and gradients.")
    lam: Annotated[
        float,
        Setting(
            "Weight of the task-agnostic half",
            applies={"score": ("hybrid",), "formula": ("sum", "quota")},
            step=0.05,
        ),
    ] = Field(0.5, ge=0, le=1, description="Weight of the task-agnostic half in the sum and in the quota.")
    normalizer: Annotated[
        Normalizer,
        Parameter("--normalizer"),
        Setting(
            "Normalizer of each half",
            {"mean": "Mean", "max": "Maximum", "rank": "Ranks"},
            applies={"score": ("hybrid",), "formula": ("sum",)},
        ),
    ] = Field(
        "mean",
        validation_alias=AliasChoices("normalizer", "normaliser"),
        serialization_alias="normaliser",  # the key in stored files, which are addressed by their content
        description="What the sum divides each half by: its mean, its maximum, or ranks in place of scores.",
    )
    exponent: Annotated[
        float,
        Setting(
            "Exponent of the task-agnostic half in the product",
            applies={"score": ("hybrid",), "formula": ("product",)},
            step=0.25,
        ),
    ] = Field(
        1.0, ge=0, le=4, description="Exponent a of the task-agnostic half in the product, |g| |w|^a; 0 ignores it."
    )
    scope: Annotated[
        str,
        Setting(
            "Eligible weights",
            {
                "matrices": "Matrices of all blocks",
                "last:50%": "Matrices of the last half of the blocks",
                "last:25%": "Matrices of the last quarter of the blocks",
                "blocks": "All weights of the blocks: matrices, biases, norms and LayerScale",
                "all": "All weights of the backbone",
            },
        ),
    ] = Field(
        "last:50%",
        pattern=f"^({SCOPES})$",
        description="Which weights are eligible: 'all', 'blocks' (all of the blocks), 'matrices' (of all blocks), or "
        "the matrices of the last blocks (last:4, last:25%).",
    )
    images: Annotated[int, Parameter("--score-images"), Setting("Images for scoring")] = Field(
        256, ge=1, description="Training images that scores are estimated on."
    )
    expectation: Annotated[
        Expectation,
        Setting(
            "Gradients of",
            {"all": "All images at once", "batch": "Batches, then the mean", "image": "Single images, then the mean"},
            applies={"score": ("hybrid", "gradient", "fisher")},
        ),
    ] = Field(
        "all",
        description="Gradients that scores are made of: of batches, of single images (exact Fisher information), or of "
        "all images at once.",
    )
    spread: Annotated[
        Spread,
        Setting("Distribution over rows", {"row": "As few per row as possible", "none": "The highest scores anywhere"}),
    ] = Field(
        "none",
        description="row: as few weights of a row (the inputs of one neuron) as the budget allows; none: the highest "
        "scores, wherever they are.",
    )


class TrainingConfig(Section):
    """How the selected weights and the head are trained."""

    epochs: Annotated[int, Setting("Epochs", advanced=False)] = Field(
        16,
        ge=1,
        le=1000,
        description="Passes over the training images. On the validation images the result is never worse than the "
        "linear probe.",
    )
    batch_size: Annotated[int, Setting("Batch size")] = Field(16, ge=1, le=4096, description="Images per step.")
    lr: Annotated[float, Setting("Learning rate of the weights", step=1e-4)] = Field(
        1e-2, gt=0, description="Peak learning rate of AdamW for the selected weights."
    )
    head_lr: Annotated[float, Setting("Learning rate of the classifier", step=1e-4)] = Field(
        1e-4, gt=0, description="Peak learning rate of AdamW for the head."
    )
    weight_decay: Annotated[float, Setting("Weight decay", step=1e-4)] = Field(
        1e-4, ge=0, description="Pulls the selected weights towards their pretrained values."
    )
    warmup: Annotated[float, Setting("Share of the steps for warm-up", step=0.05)] = Field(
        0.1, ge=0, lt=1, description="Share of the steps in which the learning rates rise from 0."
    )
    lr_scale: Annotated[
        Steps,
        Setting(
            "Steps of single weights",
            {
                "uniform": "The same learning rate for all",
                "sensitivity": "Smaller for weights that the loss depends on",
            },
        ),
    ] = Field(
        "uniform",
        description="sensitivity: the learning rate of each selected weight is proportional to "
        "(F + 0.1 mean F)^(-1/2), where F is its squared gradient from scoring; the mean stays the same.",
    )
    average: Annotated[
        Average,
        Setting(
            "Average the weights",
            {
                "auto": "Automatic: over the last quarter of the epochs",
                "none": "No: the best epoch",
                "last_quarter": "Over the last quarter of the epochs",
            },
        ),
    ] = Field(
        "auto",
        description="last_quarter: the result is the mean of the weights after each of the last quarter of the epochs, "
        "where it beats the start on the validation images, instead of the best single epoch. auto does so, but takes "
        "the best round where sites train together.",
    )
    augment: Annotated[
        Augmentation,
        Setting(
            "Augmentation",
            {
                "none": "None",
                "flip": "Random left-right flips",
                "light": "Light: half of medium",
                "medium": "Medium",
                "strong": "Strong: half more than medium",
            },
        ),
    ] = Field(
        "none",
        description="Random changes of training images. light, medium, strong: small rotations, shifts and zooms, and "
        "brightness, contrast and color as far as the modality allows. flip: left-right flips in any modality, so that "
        "the side of a finding is lost.",
    )
    modality: Annotated[
        Modality,
        Setting(
            "Modality",
            {
                "auto": "As the dataset says",
                "general": "General: keeps sides and colors",
                "chest-xray": "Chest X-ray: keeps sides",
                "ct": "CT: keeps sides",
                "mri": "MRI: keeps sides",
                "ultrasound": "Ultrasound: mirrored, never upside down",
                "fundus": "Fundus: mirrored",
                "oct": "OCT: mirrored, never upside down",
                "dermoscopy": "Dermoscopy: mirrored and turned",
                "histopathology": "Histopathology: mirrored and turned, keeps colors",
                "microscopy": "Microscopy: mirrored and turned, keeps colors",
            },
            applies={"augment": ("light", "medium", "strong")},
        ),
    ] = Field(
        "auto",
        description="What augmentation may change: it keeps left and right in X-rays, CT and MRI, and the stain's "
        "colors in histopathology. auto: as the dataset says; where it does not, as general. Only square inputs are "
        "turned by 90°.",
    )
    mixup: Annotated[float, Setting("Mixup", step=0.1)] = Field(
        0.0,
        ge=0,
        le=10,
        description="Train on mixtures of two images and their labels; the share of one is drawn from Beta(a, a). "
        "0: no mixtures; 0.2 is usual.",
    )
    label_smoothing: Annotated[float, Setting("Label smoothing", step=0.05)] = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each training label that is spread evenly over all classes; 0.1 is usual.",
    )
    balance: Annotated[
        Balance,
        Setting(
            "Rare classes",
            {
                "none": "As frequent as they are",
                "loss": "Weighted more in the loss",
                "sampling": "Drawn more often",
            },
        ),
    ] = Field(
        "none",
        description="Let every class count alike in fine-tuning and in the validation loss: by class weights in the "
        "loss, or by drawing images of each class equally often, with replacement. Probabilities are then those for "
        "equally frequent classes.",
    )
    cache: Annotated[bool, Setting("Run frozen blocks once", applies={"checkpointing": ("auto", "never")})] = Field(
        True,
        description="Run the blocks below the earliest selected weight once per image and reuse their output in every "
        "epoch; helps where only the last blocks may change. Images that augmentation or mixup changes pass all blocks "
        "in every epoch.",
    )
    checkpointing: Annotated[
        Checkpointing,
        BeforeValidator(_checkpointing),
        Setting(
            "Save memory, take longer",
            {"auto": "Automatic: where the memory would not do", "always": "Always", "never": "Never"},
        ),
    ] = Field(
        "auto",
        description="Gradient checkpointing: recompute activations in the backward pass; less memory, more time, no "
        "cache of features, and the same numbers but for their rounding. auto does so where scoring or training would "
        "take more memory than is free.",
    )
    compiled: Annotated[bool, Setting("Compile")] = Field(
        False,
        description="Let torch.compile fuse the training step: the first steps are slow, and it needs a C++ compiler.",
    )


class DecisionConfig(Section):
    """What the model's answers have to achieve."""

    must_not_miss: Annotated[str, Setting("Which class must not be missed?", advanced=False)] = Field(
        "",
        description="The class that must not be missed, usually the disease: its threshold is fitted on the validation "
        "images. Empty: the most probable class is the answer.",
    )
    sensitivity: Annotated[float, Setting("How surely?", advanced=False, step=0.01)] = Field(
        0.95, ge=0.5, lt=1, description="Share of the images of this class that have to be found."
    )


class RunConfig(Document):
    """All settings that decide a run's result.

    Examples:
        >>> config = RunConfig.parse({"training": {"epochs": 5}})
        >>> config.training.epochs, config.selection.budget, config.preset
        (5, 0.0001, 'balanced')
    """

    backbone: Annotated[BackboneConfig, Parameter("*", group="Model", negative_bool="no-")] = Field(
        default_factory=BackboneConfig
    )
    dataset: Annotated[DatasetConfig, Parameter("*", group="Images", negative_bool="no-")] = Field(
        default_factory=DatasetConfig
    )
    selection: Annotated[SelectionConfig, Parameter("*", group="Selection", negative_bool="no-")] = Field(
        default_factory=SelectionConfig
    )
    training: Annotated[TrainingConfig, Parameter("*", group="Training", negative_bool="no-")] = Field(
        default_factory=TrainingConfig
    )
    decision: Annotated[DecisionConfig, Parameter("*", group="Decision", negative_bool="no-")] = Field(
        default_factory=DecisionConfig
    )
    seed: Annotated[int, Parameter(group="Run"), Setting("Seed", advanced=False)] = Field(
        0, ge=0, le=2**31 - 1, description="Decides everything random; the same seed gives the same result."
    )
    device: Annotated[
        str,
        Parameter(group="Run"),
        Setting("Device", {"auto": "Automatic", "cpu": "Processor"}, advanced=False),
    ] = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (a graphics card where there is one), cpu, cuda, cuda:N or mps.",
    )
    store_features: Annotated[
        bool, Parameter(group="Run", negative_bool="no-"), Setting("Show similar training images in diagnoses")
    ] = Field(
        False,
        description="Store features of the training images in the run folder (no pixels, no names): a diagnosis then "
        "shows the most similar ones. Features can reveal whose images a model was trained on; exports leave them out.",
    )
    precision: Annotated[
        PrecisionChoice,
        Parameter(group="Run"),
        Setting(
            "Precision",
            {
                "auto": "Automatic: 16 bits where the hardware has them",
                "float32": "32 bits",
                "bfloat16": "16 bits where that is enough (bfloat16)",
            },
        ),
    ] = Field(
        "float32",
        description="bfloat16 runs the backbone under autocast, which is faster on graphics cards and on processors "
        "with AMX or AVX-512 BF16, and several times slower on others; auto takes it on those alone. Weights and "
        "gradients stay float32.",
    )

    @classmethod
    def of_run(cls, path: str | Path) -> "RunConfig":
        """Read the file of a run folder; settings that an old file lacks have the values of its time.

        Raises:
            ConfigError: as ``from_yaml``.
        """
        raw = read_mapping(path)
        for section, settings in SETTINGS_OF_OLD_RUNS.items():
            if isinstance(raw.get(section), dict):
                raw[section] = settings | raw[section]
        return cls.parse(raw)

    def with_preset(self, name: str) -> "RunConfig":
        """Return a copy with the settings of a preset."""
        raw = self.model_dump()
        for section, settings in PRESETS[name].settings.items():
            raw[section] |= settings
        return self.parse(raw)

    def portable(self) -> "RunConfig":
        """Return a copy without paths: of local folders and files only the last part of the name remains."""

        def name(path: str) -> str:
            return re.split(r"[/\\]", path.rstrip("/\\"))[-1]

        source, weights, model = self.dataset.source, self.backbone.weights, self.backbone.name
        if not source.startswith(("phantom:", "medmnist:")):
            kind, equals, path = source.partition("=") if source.startswith("recipe:") else ("", "", source)
            source = kind + equals + name(path)
        return self.model_copy(
            update={
                "backbone": self.backbone.model_copy(
                    update={
                        "name": f"local-dir:{name(model)}" if model.startswith("local-dir:") else model,
                        "weights": name(weights),
                    }
                ),
                "dataset": self.dataset.model_copy(update={"source": source}),
            }
        )

    @property
    def preset(self) -> str | None:
        """The preset whose settings are all in force, or None."""
        return next((name for name in PRESETS if self.with_preset(name) == self), None)

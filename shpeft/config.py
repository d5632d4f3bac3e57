"""The schema of a run: one YAML for the command line, the app and the run folder."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shpeft.errors import ConfigError, did_you_mean

EMBEDDED = "embedded"
"""The name of the backbone that ships with shpeft."""

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "selection": {"scope": "last:25%", "expectation": "all", "spread": "none"},
        "training": {"cache": True, "checkpointing": False},
    },
    "balanced": {
        "selection": {"scope": "last:50%", "expectation": "all", "spread": "none"},
        "training": {"cache": True, "checkpointing": False},
    },
    "thorough": {"selection": {"scope": "matrices", "expectation": "all", "spread": "none"}},
    "paper": {"selection": {"scope": "matrices", "expectation": "batch", "spread": "none"}},
}
"""What a preset decides: whether only the last blocks may change, so that the blocks below run once an image; and
whether weights are scored by the gradient of all images, or as in our reading of the paper by those of batches."""

BEFORE = {"expectation": "batch", "spread": "none"}
"""How runs selected before there was a choice."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads the same plain YAML in a tenth of the time where PyYAML was built with libyaml: a page reads every run's."""

SCOPES = r"all|matrices|last:([1-9]\d*|[1-9]\d?%)"
"""Which weights may be eligible, as a pattern."""


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Document(Section):
    """A whole configuration, as it stands in one YAML file."""

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Check a nested dictionary.

        Raises:
            ConfigError: one line for each problem, all of them at once.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(_sentences(error, cls)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a configuration file.

        Raises:
            ConfigError: the file cannot be read, is no YAML mapping, or has wrong values.
        """
        return cls.parse(_mapping(path))

    def to_yaml(self) -> str:
        """The configuration as YAML, defaults included, in the schema's order."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class BackboneConfig(Section):
    """Which pretrained model is adapted."""

    name: str = Field(EMBEDDED, description="a timm model name, or 'embedded' for the one that ships with shpeft")
    weights: str = Field("pretrained", description="'pretrained', 'random', or the path of a local .safetensors file")
    image_size: int | None = Field(None, ge=16, le=2048, description="side of the square input in pixels")


class DatasetConfig(Section):
    """Which images, and how they are split."""

    source: str = Field(
        "phantom:fundus", description="a folder, a table, 'recipe:NAME=FOLDER', 'medmnist:NAME' or 'phantom:NAME'"
    )
    val_fraction: float = Field(0.2, gt=0, lt=1, description="share of the training images kept for validation")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share kept for testing where no split is given")
    window: str = Field(
        "auto",
        description="values of 16-bit and DICOM images that are told apart: auto, full, LOW:HIGH, a CT window",
    )
    frame: int | None = Field(None, ge=0, description="of several, counted from 0; none: a DICOM's middle one")
    columns: dict[Literal["path", "label", "split", "group", "subgroup"], str] = Field(
        default_factory=dict, description="what a table's columns are called, where not path, label, split, patient_id"
    )
    on_unreadable: Literal["skip", "refuse"] = Field("skip", description="what to do with damaged images")
    leakage: Literal["report", "drop", "refuse"] = Field(
        "report",
        description="of images, patients and look-alikes in several given splits: say it, leave out the training-side "
        "twin, or refuse the dataset",
    )
    cache: bool = Field(True, description="keep resized pixels in the user's cache folder for the next run")


class SelectionConfig(Section):
    """How the weights are scored and how many may move."""

    budget: int | float = Field(1e-4, gt=0, description="a share of the backbone's weights (below 1) or a count")
    score: Literal["hybrid", "gradient", "fisher", "magnitude", "wanda", "random"] = Field("hybrid")
    formula: Literal["product", "sum", "quota"] = Field("product", description="how the hybrid joins its halves")
    norm: Literal["l1", "l2"] = Field("l1", description="absolute values, or squares")
    lam: float = Field(0.5, ge=0, le=1, description="weight of the task-agnostic half in sum and quota")
    normaliser: Literal["mean", "max", "rank"] = Field("mean", description="what the sum divides each half by")
    scope: str = Field("matrices", pattern=f"^({SCOPES})$", description="which weights are eligible")
    images: int = Field(256, ge=1, description="training images that the scores are estimated on")
    expectation: Literal["batch", "image", "all"] = Field(
        "all",
        description="whether gradients are those of batches, of single images (exact Fisher), or of all images at once",
    )

    spread: Literal["row", "none"] = Field(
        "none",
        description="row: as few weights of a row (what one neuron is computed from) as the budget allows; none: the "
        "highest scores, wherever they are",
    )

    @field_validator("budget", mode="before")
    @classmethod
    def _share_or_count(cls, value: Any) -> Any:
        """1 and above is a count and must be whole; below 1 is a share."""
        if isinstance(value, float) and value >= 1:
            if value != int(value):
                raise ValueError(f"{value} is neither a share below 1 nor a whole number of weights")
            return int(value)
        return value


class TrainingConfig(Section):
    """How the selected weights and the head are trained."""

    epochs: int = Field(10, ge=1, le=1000)
    batch_size: int = Field(16, ge=1, le=4096)
    lr: float = Field(1e-2, gt=0, description="AdamW's peak learning rate for the selected weights")
    head_lr: float = Field(1e-4, gt=0, description="AdamW's peak learning rate for the head")
    weight_decay: float = Field(1e-4, ge=0, description="pulls the selected weights towards their pretrained values")
    augment: Literal["none", "flip"] = Field("none", description="random horizontal flips of training images")
    cache: bool = Field(True, description="run blocks below the earliest weight that may change once an image only")
    checkpointing: bool = Field(
        False, description="compute activations anew in the backward pass: less memory, and no cache"
    )
    compiled: bool = Field(False, description="let torch.compile fuse the steps; needs a C++ compiler")


class RunConfig(Document):
    """Everything that decides a run's result."""

    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    selection: SelectionConfig = Field(default_factory=SelectionConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 runs the backbone under autocast; weights and gradients stay float32"
    )

    @classmethod
    def of_run(cls, path: str | Path) -> "RunConfig":
        """Read what a run left: complete when it was written, so that what it lacks was decided as it was then.

        Raises:
            ConfigError: as ``from_yaml``.
        """
        raw = _mapping(path)
        if isinstance(raw.get("selection"), dict):
            raw["selection"] = BEFORE | raw["selection"]
        return cls.parse(raw)

    def with_preset(self, name: str) -> "RunConfig":
        """The same with what a preset of ``PRESETS`` decides."""
        raw = self.model_dump()
        for section, settings in PRESETS[name].items():
            raw[section] |= settings
        return self.parse(raw)

    def portable(self) -> "RunConfig":
        """The same with names in place of places: of a folder or a file on this computer only its own name."""

        def name(place: str) -> str:
            return re.split(r"[/\\]", place.rstrip("/\\"))[-1]

        source, weights = self.dataset.source, self.backbone.weights
        if not source.startswith(("phantom:", "medmnist:")):
            kind, equals, place = source.partition("=") if source.startswith("recipe:") else ("", "", source)
            source = kind + equals + name(place)
        return self.model_copy(
            update={
                "backbone": self.backbone.model_copy(update={"weights": name(weights)}),
                "dataset": self.dataset.model_copy(update={"source": source}),
            }
        )

    @property
    def preset(self) -> str | None:
        """The preset whose settings are all in force; None where none is."""
        return next((name for name in PRESETS if self.with_preset(name) == self), None)


def _mapping(path: str | Path) -> dict[str, Any]:
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"The configuration {path} is not a YAML mapping with keys such as 'backbone:'.")
    return raw


def differences(configs: Sequence[RunConfig]) -> dict[str, tuple[object, ...]]:
    """The settings in which configurations differ, ``training.lr`` and the like, with the value of each."""
    flat = [_flat(config.model_dump(mode="json")) for config in configs]
    rows = {key: tuple(settings.get(key) for settings in flat) for key in dict.fromkeys(itertools.chain(*flat))}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _sentences(error: ValidationError, schema: type[BaseModel]) -> str:
    """Pydantic's list of problems, as one line a problem."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(str(problem["loc"][-1]), _keys(schema))
            lines.append(f"{where}: there is no such setting. {hint}".rstrip())
        elif where:
            lines.append(f"{where}: {problem['msg']} (found {problem['input']!r})")
        else:  # what was found is the whole configuration, which the message is about
            lines.append(problem["msg"].removeprefix("Value error, "))
    return "The configuration has problems:\n" + "\n".join(f"- {line}" for line in lines)


def _keys(section: type[BaseModel]) -> list[str]:
    """Every key of the schema, sections included."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _keys(field.annotation)
    return keys

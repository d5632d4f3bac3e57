"""A sweep: one configuration repeated over seeds, folds and lists of settings."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from shpeft.config.documents import Document, fields
from shpeft.config.schema import RunConfig
from shpeft.errors import ConfigError, did_you_mean

MOST_RUNS = 1000
"""Runs of one sweep."""

Folds = Annotated[str, Field(pattern=r"^(site|fold)(:[1-9]\d*)?$")]


def read_seeds(value: Any) -> Any:
    """Read ``0..4`` and ``0,3,5`` as numbers.

    Raises:
        ValueError: neither of them.

    Examples:
        >>> read_seeds("0..4"), read_seeds("0,3,5"), read_seeds(7)
        ((0, 1, 2, 3, 4), (0, 3, 5), (7,))
    """
    if isinstance(value, int):
        return (value,)
    if not isinstance(value, str):
        return value
    try:
        if (match := re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)) is not None:
            return tuple(range(int(match[1]), int(match[2]) + 1))
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise ValueError(f"{value!r} are no seeds; give 0..4 or 0,3,5") from None


def read_folds(value: Any) -> Any:
    """Read a number that is written as text."""
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], BeforeValidator(read_seeds)]


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: what follows the sweep's name in that of the run.
        config: its configuration.
        settings: the settings of this run that the sweep lists.
        combination: their number, from 0.
        fold: its fold, from 1; None without folds.
    """

    name: str
    config: RunConfig
    settings: dict[str, Any]
    combination: int
    fold: int | None


class Sweep(Document):
    """A configuration, and what its runs differ in.

    Examples:
        >>> sweep = Sweep.parse({"seeds": "0..1", "folds": 3, "settings": {"training.lr": [0.01, 0.001]}})
        >>> [member.name for member in sweep.members()][:4]
        ['1-seed0-fold1', '1-seed0-fold2', '1-seed0-fold3', '1-seed1-fold1']
    """

    config: RunConfig = Field(default_factory=RunConfig, description="The settings that all runs share.")
    seeds: Seeds = Field((), description="Seeds, such as 0..4; none: that of the configuration.")
    folds: Annotated[Annotated[int, Field(ge=2, le=100)] | Folds | None, BeforeValidator(read_folds)] = Field(
        None,
        description="A number of folds by class and patient; site or fold: one for each site, or value of a column "
        "fold; site:3: of which there are three.",
    )
    settings: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="Values of settings, such as training.lr: [0.01, 0.001]; all combinations run.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = [path for path, _, _ in fields(RunConfig) if path not in ("seed", "dataset.fold")]
        for path, values in self.settings.items():
            if path not in known:
                raise ValueError(f"settings: there is no setting {path!r} to list. {did_you_mean(path, known)}")
            if not values or len({repr(value) for value in values}) < len(values):
                raise ValueError(f"settings.{path}: give each value once")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: give each seed once")
        if self.folds is not None and self.config.dataset.fold:
            raise ValueError("folds: the configuration has a fold already; leave dataset.fold out")
        for settings in self.combinations():
            self._with(settings)
        return self

    def combinations(self) -> list[dict[str, Any]]:
        """Return every combination of the listed settings."""
        return [dict(zip(self.settings, values, strict=True)) for values in itertools.product(*self.settings.values())]

    @property
    def column(self) -> str:
        """The column that folds are read from, ``site`` or ``fold``; empty if they are drawn, or if there are none."""
        return self.folds.partition(":")[0] if isinstance(self.folds, str) else ""

    @property
    def fold_count(self) -> int | None:
        """The number of folds; None without folds, or where only the dataset says it (see :meth:`with_fold_count`)."""
        if not isinstance(self.folds, str):
            return self.folds
        count = self.folds.partition(":")[2]
        return int(count) if count else None

    def with_fold_count(self, count: int) -> Self:
        """Return a copy with the number of values of the column that folds are read from."""
        return self.model_copy(update={"folds": f"{self.column}:{count}"})

    def members(self) -> list[Member]:
        """Return the runs, one combination of settings after the other.

        Raises:
            ConfigError: there are more than a thousand, or the number of folds is not known yet.
        """
        if self.folds is not None and self.fold_count is None:
            raise ConfigError(f"How many folds there are by {self.column} is not known before the images are read.")
        count = len(self.combinations()) * max(1, len(self.seeds)) * (self.fold_count or 1)
        if count > MOST_RUNS:
            raise ConfigError(f"The sweep has {count:,} runs, and at most {MOST_RUNS:,} are possible.")
        return list(self._members())

    def _members(self) -> Iterator[Member]:
        column = f"{self.column}:" if self.column else ""
        count = self.fold_count
        for number, settings in enumerate(self.combinations()):
            config = self._with(settings)
            for seed in self.seeds or (config.seed,):
                for fold in range(1, count + 1) if count else (None,):
                    parts = [str(number + 1)] if self.settings else []
                    parts += [f"seed{seed}"] if self.seeds else []
                    parts += [f"fold{fold}"] if fold else []
                    part = {"fold": f"{column}{fold}/{count}"} if fold else {}
                    own = {"seed": seed, "dataset": config.dataset.model_copy(update=part)}
                    yield Member("-".join(parts), config.model_copy(update=own), settings, number, fold)

    def _with(self, settings: dict[str, Any]) -> RunConfig:
        """Return the configuration with some settings; their values are checked."""
        raw = self.config.model_dump(by_alias=False)
        for path, value in settings.items():
            section, _, name = path.rpartition(".")
            (raw[section] if section else raw)[name] = value
        return RunConfig.model_validate(raw)

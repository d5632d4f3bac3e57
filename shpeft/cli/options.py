"""Options that several verbs share, and the configuration that options make up.

The options of a configuration are the fields of ``RunConfig``: cyclopts reads their names, types and help there and
returns a ``RunConfig`` in which only the given ones are set.
"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from shpeft.config import PRESETS, RunConfig, fields, option
from shpeft.config.presets import preset_help
from shpeft.errors import ConfigError, did_you_mean

Config = Annotated[Path | None, Parameter(help="A YAML configuration; options override it.")]
Preset = Annotated[str | None, Parameter(help=preset_help())]
Settings = Annotated[RunConfig, Parameter("*")]
Device = Annotated[str, Parameter(help=RunConfig.model_fields["device"].description)]
Track = Annotated[
    str | None,
    Parameter(
        help="Follow the run in tensorboard, mlflow, wandb or trackio, on this computer: NAME, or NAME=WHERE with a "
        "folder or the address of your server."
    ),
]
Engine = Annotated[
    str,
    Parameter(
        help="Who carries out runs: thread (this process), process (one of its own for each run), ray (the Ray cluster "
        "that this computer is part of) or ray://HOST:PORT."
    ),
]
Json = Annotated[bool, Parameter(help="Print JSON.", show_default=False)]

UNSET = RunConfig()
"""A configuration of which nothing was given: the default of ``Settings``."""


def configuration(file: Path | None = None, preset: str | None = None, given: RunConfig = UNSET) -> RunConfig:
    """Return the configuration of a YAML file, a preset and the given options; the later one wins.

    Raises:
        ConfigError: an unknown preset, or the problems of the file, all at once.
    """
    raw: dict[str, Any] = RunConfig.from_yaml(file).model_dump() if file else {}
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"There is no preset {preset!r}. {did_you_mean(preset, PRESETS)}")
        _update(raw, PRESETS[preset].settings)
    _update(raw, given.model_dump(exclude_unset=True))
    return RunConfig.parse(raw)


def _update(raw: dict[str, Any], settings: dict[str, Any]) -> None:
    """Overwrite settings, section by section."""
    for name, value in settings.items():
        if isinstance(value, dict):
            raw.setdefault(name, {}).update(value)
        else:
            raw[name] = value


def given_options(given: RunConfig) -> list[str]:
    """Return the options that were given, such as ``--lr``."""
    dump = given.model_dump(exclude_unset=True, by_alias=False)
    options = []
    for path, _, field in fields(RunConfig):
        section, _, name = path.rpartition(".")
        if name in (dump.get(section, {}) if section else dump):
            options.append(option(path, field))
    return options

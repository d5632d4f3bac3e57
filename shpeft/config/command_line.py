"""The command that does the same run as a configuration."""

import shlex
from operator import attrgetter

from shpeft.config.documents import fields
from shpeft.config.reference import option
from shpeft.config.schema import RunConfig


def command(config: RunConfig) -> str:
    """Return the ``shpeft finetune`` of a configuration; settings at their defaults are left out.

    Columns whose names an option cannot hold lead to the command for the configuration as a file.
    """
    default, parts = RunConfig(), ["shpeft", "finetune"]
    for path, _, field in fields(RunConfig):
        value, name = attrgetter(path)(config), option(path, field)
        if value == attrgetter(path)(default) or value is None:
            continue
        if isinstance(value, bool):
            parts.append(name if value else f"--no-{name.removeprefix('--')}")
        else:
            parts += [name, _text(value)]
    columns = config.dataset.columns.values()
    if any(set(",=") & set(column) or column != column.strip() for column in columns):
        return "shpeft finetune --config config.yaml"
    return shlex.join(parts)


def _text(value: object) -> str:
    """Return a setting as its option takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return ",".join(f"{name}={column}" for name, column in value.items()) if isinstance(value, dict) else str(value)

"""The reference of the settings, for the command line and the documentation."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shpeft.config.documents import fields, limits
from shpeft.config.schema import LARGEST_SIDE, LEAST_SIDE, Channels, RunConfig, Setting
from shpeft.support.image_size import ImageSize

TYPES = {int: "integer", float: "number", str: "text", bool: "yes or no"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def option(path: str, field: FieldInfo) -> str:
    """Return the option of a setting, such as ``--score-images`` for ``selection.images``."""
    names = [name for part in field.metadata if isinstance(part, Parameter) for name in part.name or ()]
    return names[0] if names else "--" + path.rpartition(".")[2].replace("_", "-")


def setting(field: FieldInfo) -> Setting | None:
    """Return how the app shows a setting; None for a field that says nothing about it."""
    return next((part for part in field.metadata if isinstance(part, Setting)), None)


def reference_markdown(schema: type[BaseModel] = RunConfig) -> str:
    """Return a Markdown table of every setting: its path in the YAML file, option, values, default and help.

    Examples:
        >>> print(*[row for row in reference_markdown().splitlines() if "training.batch_size" in row])
        | `training.batch_size` | `--batch-size` | integer, at least 1, at most 4096 | 16 | Images per step. |
    """
    rows = ["| Setting | Option | Values | Default | Meaning |", "|---|---|---|---|---|"]
    for path, _, field in fields(schema):
        default = field.get_default(call_default_factory=True)
        cells = (f"`{path}`", f"`{option(path, field)}`", _values(field), _shown(default), field.description or "")
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _values(field: FieldInfo) -> str:
    bounds = [f"{BOUNDS[name]} {limit}" for name, limit in limits(field).items()]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if annotation == ImageSize | None:
        return f"a side or `HEIGHTxWIDTH`, each at least {LEAST_SIDE}, at most {LARGEST_SIDE}"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if annotation == Channels:
        return "one number or three"
    if get_origin(annotation) is tuple:
        return "`name=value`, any number of times"
    if get_origin(annotation) is dict:
        return "pairs such as `path=image,label=dx`"
    return TYPES[annotation]


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default is None or default in ({}, ()) else str(default)

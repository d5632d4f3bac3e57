"""Read, check and write YAML documents; every problem of a document becomes one line of an error."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from shpeft.errors import ConfigError, did_you_mean
from shpeft.support.bounded_files import parse_yaml, read_regular_file
from shpeft.support.limits import DOCUMENT_BYTES


class Section(BaseModel):
    """A part of a document: immutable, and unknown keys are errors.

    ``model_dump`` uses the aliases of fields, which are the keys of stored files; ``to_yaml`` uses their names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True, allow_inf_nan=False)


class Document(Section):
    """A whole YAML file."""

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Check a nested dictionary.

        Raises:
            ConfigError: one line for each problem, all of them at once.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(sentences(error, cls)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a file.

        Raises:
            ConfigError: the file cannot be read, is not a YAML mapping, or has wrong values.
        """
        return cls.parse(read_mapping(path))

    def to_yaml(self) -> str:
        """Return the document as YAML, defaults included, in the schema's order."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=False), sort_keys=False)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping.
    """
    try:
        raw = parse_yaml(read_regular_file(path, DOCUMENT_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ConfigError(f"The configuration {path} cannot be read: {reason}. Correct it, or take another.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"The configuration {path} is not a YAML mapping with keys such as 'backbone:'.")
    return raw


def limits(field: FieldInfo) -> dict[str, Any]:
    """Return the bounds of a number as ``ge``, ``gt``, ``le`` and ``lt``."""
    names = ("ge", "gt", "le", "lt")
    return {name: getattr(part, name) for part in field.metadata for name in names if hasattr(part, name)}


def same_as(section: type[BaseModel], name: str, default: Any = ...) -> Any:
    """Return a field with the bounds, the help and the stored key of another section's field.

    Args:
        section: the section that declares the setting.
        name: the setting.
        default: the new field's default; without it, the declared one.
    """
    field = section.model_fields[name]
    return Field(
        field.default if default is ... else default,
        description=field.description,
        validation_alias=field.validation_alias,
        serialization_alias=field.serialization_alias,
        **limits(field),
    )


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Yield every setting as its path (``training.lr``), the section that declares it, and its field."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, section, field


def differences(documents: Sequence[Document]) -> dict[str, tuple[object, ...]]:
    """Return the settings in which documents differ, ``training.lr`` and the like, with the value of each."""
    settings = [flat(document.model_dump(mode="json", by_alias=False)) for document in documents]
    rows = {key: tuple(own.get(key) for own in settings) for key in dict.fromkeys(itertools.chain(*settings))}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Return nested settings by their paths, ``training.lr`` and the like."""
    paths: dict[str, object] = {}
    for key, value in settings.items():
        paths |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return paths


def sentences(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return pydantic's list of problems as text, one line a problem."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            hint = did_you_mean(str(problem["loc"][-1]), _keys(schema))
            lines.append(f"{where}: there is no such setting. {hint}".rstrip())
        elif where:
            lines.append(f"{where}: {message} (found {problem['input']!r})")
        else:  # the input is the whole document
            lines.append(message)
    return "The configuration has problems:\n" + "\n".join(f"- {line}" for line in lines)


def _keys(schema: type[BaseModel]) -> list[str]:
    """Return every key of a schema, those of sections included."""
    return list(dict.fromkeys(key for path, _, _ in fields(schema) for key in path.split(".")))

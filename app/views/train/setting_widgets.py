"""The widget of a setting: its label, help, choices, bounds and default come from the schema."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from shpeft.config import RunConfig, Setting, fields, limits, option, setting

FIELDS = {path: field for path, _, field in fields(RunConfig)}


def about(path: str) -> Setting:
    """Return how the app shows a setting."""
    return setting(FIELDS[path]) or Setting(path.rpartition(".")[2].replace("_", " ").capitalize())


def help_of(path: str) -> str | None:
    """Return the help of a setting."""
    return FIELDS[path].description


def widget_key(path: str) -> str:
    """Return the key of a setting's widget: ``set_`` and the name of its option."""
    return "set_" + option(path, FIELDS[path]).removeprefix("--").replace("-", "_")


def default_of(path: str) -> Any:
    """Return the default of a setting."""
    return FIELDS[path].get_default(call_default_factory=True)


def current(path: str) -> Any:
    """Return a setting's present value: its widget's, or the default before it was drawn."""
    return st.session_state.get(widget_key(path), default_of(path))


def applies(path: str) -> bool:
    """Return whether a setting has an effect beside the present values of the others."""
    section = path.rpartition(".")[0]
    return all(current(f"{section}.{name}") in values for name, values in about(path).applies.items())


def draw(path: str, column: DeltaGenerator, choices: Mapping[str, str] | None = None, **changes: Any) -> Any:
    """Draw the widget of a setting and return its value.

    Args:
        path: the setting, such as ``training.lr``.
        column: where to draw it.
        choices: values with their labels, in place of the schema's.
        changes: arguments of the Streamlit widget that are not the schema's.
    """
    field, default = FIELDS[path], default_of(path)
    choices = about(path).choices if choices is None else choices
    shared = {"key": widget_key(path), "help": help_of(path), "persist_state": "session", **changes}
    label, types = about(path).label, get_args(field.annotation) or (field.annotation,)
    if choices:
        return column.selectbox(
            label,
            list(choices),
            list(choices).index(default),
            format_func=lambda value: choices.get(value, value),
            accept_new_options=field.annotation is str,
            **shared,
        )
    if bool in types:
        return column.toggle(label, default, **shared)
    for number in (float, int):
        if number in types and str not in types:
            bounds = {name: number(value) for name, value in limits(field).items()}
            return column.number_input(
                label,
                bounds.get("ge", bounds.get("gt")),
                bounds.get("le", bounds.get("lt")),
                default,
                about(path).step,
                format="%g" if number is float else None,
                **shared,
            )
    return column.text_input(label, default or "", **shared).strip()


def draw_all(paths: Iterable[str], **choices: Mapping[str, str]) -> dict[str, Any]:
    """Draw the settings that have an effect in two columns and return their values by name.

    Args:
        paths: settings of one section.
        choices: values with their labels, by the setting's name, in place of the schema's.
    """
    columns = st.columns(2)
    values: dict[str, Any] = {}
    for path in paths:
        name = path.rpartition(".")[2]
        if applies(path):
            values[name] = draw(path, columns[len(values) % 2], choices.get(name))
    return values


def advanced_paths(section: str) -> list[str]:
    """Return the settings of a section that a first run can do without; ``""`` is the top of the document."""
    return [path for path in FIELDS if path.rpartition(".")[0] == section and about(path).advanced]

"""Each setting is declared once: a field of the schema is an option, a YAML key, a widget and a table row."""

import inspect
from collections.abc import Callable
from typing import Annotated, get_args

import pytest
import yaml
from cyclopts import App, Parameter
from pydantic import Field

import shpeft
from shpeft import equations
from shpeft.config import RunConfig, TrainingConfig, fields, option, reference_markdown, setting
from shpeft.config import schema as settings
from tests.helpers.command_line import shpeft as run_command

PATHS = [path for path, _, _ in fields(RunConfig)]
FIELDS = {path: field for path, _, field in fields(RunConfig)}


class Extended(TrainingConfig):
    """The training section with an additional setting."""

    warmup: int = Field(3, ge=0, description="Steps before the peak.")


class ExtendedRun(RunConfig):
    """A configuration with the extended section."""

    training: Annotated[TrainingConfig, Parameter("*", group="Training", negative_bool="no-")] = Field(
        default_factory=Extended
    )


ExtendedRun.model_fields["training"].annotation = Extended
ExtendedRun.model_rebuild(force=True)
UNSET = ExtendedRun()


@pytest.fixture(scope="module")
def help_text() -> str:
    return run_command("finetune", "--help").stdout


@pytest.mark.parametrize("path", PATHS)
def test_a_field_is_an_option_with_help(path: str, help_text: str) -> None:
    assert FIELDS[path].description
    assert f" {option(path, FIELDS[path])} " in help_text


@pytest.mark.parametrize("path", PATHS)
def test_every_value_of_a_choice_has_a_label(path: str) -> None:
    shown, values = setting(FIELDS[path]), get_args(FIELDS[path].annotation)
    assert shown is not None
    if shown.choices and values:
        assert set(shown.choices) == set(values)
    for name, conditions in shown.applies.items():
        other = FIELDS[f"{path.rpartition('.')[0]}.{name}"]
        assert other.annotation is bool or set(conditions) <= set(get_args(other.annotation))


def test_a_new_field_is_an_option_a_key_and_a_row_with_no_other_edit() -> None:
    app = App(result_action="return_value", default_parameter=Parameter(negative_bool=()))

    @app.default
    def run(*, given: Annotated[ExtendedRun, Parameter("*")] = UNSET) -> ExtendedRun:
        return given

    config = app(["--warmup", "5"])
    assert config.model_dump(exclude_unset=True) == {"training": {"warmup": 5}}
    assert yaml.safe_load(config.to_yaml())["training"]["warmup"] == 5
    assert (
        "| `training.warmup` | `--warmup` | integer, at least 0 | 3 | Steps before the peak. |"
        in reference_markdown(ExtendedRun)
    )


def test_options_have_different_names() -> None:
    names = [option(path, field) for path, field in FIELDS.items()]
    assert len(names) == len(set(names)) > 30


def test_the_table_has_a_row_for_each_field() -> None:
    rows = reference_markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == PATHS


def test_the_equations_accept_the_same_values() -> None:
    assert get_args(equations.Norm) == get_args(settings.Norm)
    assert get_args(equations.Normalizer) == get_args(settings.Normalizer)


def test_the_defaults_of_functions_are_those_of_the_schema() -> None:
    functions: dict[str, Callable[..., object]] = {
        "backbone": shpeft.create_backbone,
        "dataset": shpeft.load_dataset,
        "selection": shpeft.estimate_importance,
        "training": shpeft.finetune,
    }
    checked = []
    other = ("columns", "lr_scale", "checkpointing")  # the schema has a rule, the function what follows from it
    for section, function in functions.items():
        parameters = inspect.signature(function).parameters
        for name, default in getattr(RunConfig(), section):
            if name in parameters and parameters[name].default is not inspect.Parameter.empty and name not in other:
                assert parameters[name].default == default, (section, name)
                checked.append(name)
    assert len(checked) > 20


def test_both_spellings_of_the_normalizer_are_read() -> None:
    for key in ("normalizer", "normaliser"):
        config = RunConfig.parse({"selection": {key: "rank"}})
        assert config.selection.normalizer == "rank"
        assert config.model_dump()["selection"]["normaliser"] == "rank"
        assert "normalizer: rank" in config.to_yaml()

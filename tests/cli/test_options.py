"""Options and presets become a configuration; numbers are read and printed as people write them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from shpeft.cli.options import configuration
from shpeft.cli.output import duration
from shpeft.config import RunConfig
from shpeft.errors import ConfigError
from tests.helpers.command_line import shpeft


def given(**sections: Any) -> RunConfig:
    """Return the settings that a command line gives."""
    return RunConfig.parse(sections)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("1e-4", 1e-4), ("0.01%", 1e-4), ("0.5 %", 5e-3), ("2000", 2000), ("0.25", 0.25), ("1e3", 1000), (".5", 0.5)],
)
def test_budgets_are_read_as_people_write_them(text: str, budget: float) -> None:
    value = given(selection={"budget": text}).selection.budget
    assert value == pytest.approx(budget)
    assert isinstance(value, int) == (budget >= 1)


@pytest.mark.parametrize("text", ["", "many", "-3", "1.2.3", "1e", "%"])
def test_text_that_is_not_a_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a number"):
        given(selection={"budget": text})


def test_columns_are_read_as_pairs() -> None:
    assert given(dataset={"columns": "path=image, label=dx"}).dataset.columns == {"path": "image", "label": "dx"}
    with pytest.raises(ConfigError, match="path=image,label=dx"):
        given(dataset={"columns": "path"})


def test_options_override_the_file_and_nothing_else(tiny_yaml: Path) -> None:
    config = configuration(tiny_yaml, given=given(training={"lr": 0.1}, selection={"budget": "0.1%"}))
    assert (config.training.lr, config.training.batch_size) == (0.1, 8)
    assert config.selection.budget == pytest.approx(1e-3)
    assert configuration() == RunConfig()


def test_a_preset_overrides_the_file_and_options_override_the_preset(tiny_yaml: Path) -> None:
    assert configuration(tiny_yaml, "fast").selection.scope == "last:25%"
    assert configuration(tiny_yaml, "fast", given(selection={"scope": "last:1"})).selection.scope == "last:1"
    assert configuration(None, "thorough").selection.scope == "matrices"
    assert configuration(tiny_yaml, "fast").training.epochs == configuration(tiny_yaml).training.epochs
    with pytest.raises(ConfigError, match=r"no preset 'fats'.*fast"):
        configuration(None, "fats")


def test_switches_turn_on_and_off(tiny_yaml: Path, tmp_path: Path) -> None:
    shown = shpeft(
        "finetune", "--config", tiny_yaml, "--no-cache", "--checkpointing", "always", "--no-image-cache", "--dry-run"
    )
    config = RunConfig.parse(yaml.safe_load(shown.stdout))
    assert (config.training.cache, config.training.checkpointing, config.training.compiled) == (False, "always", False)
    assert not config.dataset.cache


def test_an_option_that_does_not_exist_is_a_sentence_with_the_nearest_name() -> None:
    assert "Did you mean --epochs?" in shpeft("finetune", "--epoch", 3, code=2).stderr
    assert 'Did you mean "finetune"?' in shpeft("finetun", code=2).stderr


def test_all_wrong_options_are_listed_at_once() -> None:
    error = shpeft(
        "finetune", "--score", "hybird", "--epochs", "none", "--seed", "-1", "--budget", "many", code=2
    ).stderr
    for name in ("selection.score", "training.epochs", "seed", "selection.budget"):
        assert f"- {name}: " in error


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.2, "0:00 left"), (65, "1:05 left"), (3661, "1:01:01 left")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text

"""Flags and presets become a configuration, and numbers are read and told as people write them."""

from pathlib import Path

import pytest

from shpeft.cli.console import duration
from shpeft.cli.options import configuration, parse_budget
from shpeft.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "budget"), [("1e-4", 1e-4), ("0.01%", 1e-4), ("0.5 %", 5e-3), ("2000", 2000), ("0.25", 0.25), ("1e3", 1e3)]
)
def test_budgets(text, budget):
    assert parse_budget(text) == pytest.approx(budget)
    assert isinstance(parse_budget("2000"), int)


@pytest.mark.parametrize("text", ["", "many", "-3", "1.2.3", "1e", "%"])
def test_budgets_that_are_none(text):
    with pytest.raises(ConfigError, match="is no number"):
        parse_budget(text)


def test_flags_override_the_file_and_nothing_else(tiny_yaml):
    config = configuration(tiny_yaml, {"lr": 0.1, "budget": "0.1%", "seed": None, "out": "ignored"})
    assert (config.training.lr, config.selection.budget, config.training.batch_size) == (0.1, pytest.approx(1e-3), 8)
    assert configuration(None, {}) == type(config)()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_valid(path):
    assert configuration(path, {"epochs": 1}).training.epochs == 1


def test_a_preset_overrides_the_file_and_flags_override_the_preset(tiny_yaml):
    assert configuration(tiny_yaml, {"preset": "fast"}).selection.scope == "last:25%"
    assert configuration(tiny_yaml, {"preset": "fast", "scope": "last:1"}).selection.scope == "last:1"
    assert configuration(None, {"preset": "thorough"}).selection.scope == "matrices"
    assert configuration(tiny_yaml, {"preset": "fast"}).training.epochs == configuration(tiny_yaml, {}).training.epochs
    with pytest.raises(ConfigError, match=r"no preset 'fats'.*fast"):
        configuration(None, {"preset": "fats"})


def test_flags_that_switch_on_and_off(tiny_yaml):
    flags = {"cache": False, "checkpointing": True, "compiled": None, "expectation": "image"}
    made = configuration(tiny_yaml, flags)
    assert (made.training.cache, made.training.checkpointing, made.training.compiled) == (False, True, False)
    assert made.selection.expectation == "image"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.2, "0:00 left"), (65, "1:05 left"), (3661, "1:01:01 left")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text

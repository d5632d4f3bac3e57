"""A configuration as a command, without places, and beside others."""

import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from shpeft.cli import app, options
from shpeft.config import RunConfig, differences
from shpeft.flags import command

CONFIG = RunConfig()


def test_only_settings_that_differ_are_listed():
    other = RunConfig.parse({"seed": 3, "training": {"lr": 1e-3}, "dataset": {"columns": {"path": "file"}}})
    found = differences([CONFIG, other, CONFIG])
    assert found == {
        "dataset.columns.path": (None, "file", None),
        "training.lr": (1e-2, 1e-3, 1e-2),
        "seed": (0, 3, 0),
    }
    assert differences([CONFIG, CONFIG]) == {}


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"selection": {"budget": 1e-5, "score": "fisher", "scope": "last:3", "expectation": "image"}, "seed": 7},
        {"selection": {"budget": 500}, "training": {"cache": False, "checkpointing": True, "lr": 1 / 3}},
        {"dataset": {"source": "/my scans/it's.csv", "columns": {"path": "a file", "label": "dx"}, "frame": 0}},
        {"backbone": {"name": "test_vit", "weights": "random", "image_size": 32}, "precision": "bfloat16"},
    ],
)
def test_the_command_of_a_configuration_is_that_configuration(raw):
    config = RunConfig.parse(raw)
    program, verb, *words = shlex.split(command(config))
    assert (program, verb) == ("shpeft", "finetune")
    given = get_command(app).commands[verb].make_context(verb, words).params
    assert options.configuration(None, given) == config


def test_a_configuration_that_no_flags_can_hold_is_given_as_a_file():
    config = RunConfig.parse({"dataset": {"columns": {"path": "a,b"}}})
    assert command(config) == "shpeft finetune --config config.yaml"


def test_a_portable_configuration_has_names_only():
    config = RunConfig.parse({"dataset": {"source": "recipe:busi=/data/BUSI/"}, "backbone": {"weights": "C:\\w\\a.st"}})
    assert config.portable().dataset.source == "recipe:busi=BUSI"
    assert config.portable().backbone.weights == "a.st"
    assert CONFIG.portable() == CONFIG
    assert Path(RunConfig.parse({"dataset": {"source": "/a/b c"}}).portable().dataset.source).name == "b c"

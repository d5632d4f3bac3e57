"""A configuration as a command, without paths, and compared with others."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from shpeft.cli import app, options
from shpeft.config import RunConfig, command, differences

CONFIG = RunConfig()


def test_only_settings_that_differ_are_listed() -> None:
    other = RunConfig.parse({"seed": 3, "training": {"lr": 1e-3}, "dataset": {"columns": {"path": "file"}}})
    rows = differences([CONFIG, other, CONFIG])
    assert rows == {
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
        {"selection": {"budget": 500}, "training": {"cache": False, "checkpointing": "always", "lr": 1 / 3}},
        {"dataset": {"source": "/my scans/it's.csv", "columns": {"path": "a file", "label": "dx"}, "frame": 0}},
        {"backbone": {"name": "test_vit", "weights": "random", "image_size": 32}, "precision": "bfloat16"},
        {"backbone": {"image_size": "224x448"}},
    ],
)
def test_the_command_of_a_configuration_is_that_configuration(raw: dict[str, Any]) -> None:
    config = RunConfig.parse(raw)
    program, verb, *arguments = shlex.split(command(config))
    assert (program, verb) == ("shpeft", "finetune")
    _, bound, _ = app.parse_args([verb, *arguments], exit_on_error=False, print_error=False)
    assert options.configuration(given=bound.arguments.get("settings", options.UNSET)) == config


def test_columns_that_options_cannot_hold_need_a_file() -> None:
    config = RunConfig.parse({"dataset": {"columns": {"path": "a,b"}}})
    assert command(config) == "shpeft finetune --config config.yaml"


def test_a_portable_configuration_has_names_only() -> None:
    config = RunConfig.parse({"dataset": {"source": "recipe:busi=/data/BUSI/"}, "backbone": {"weights": "C:\\w\\a.st"}})
    assert config.portable().dataset.source == "recipe:busi=BUSI"
    assert config.portable().backbone.weights == "a.st"
    assert CONFIG.portable() == CONFIG
    assert Path(RunConfig.parse({"dataset": {"source": "/a/b c"}}).portable().dataset.source).name == "b c"

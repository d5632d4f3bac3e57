"""The flags of ``shpeft finetune`` as places in a configuration, and the command that a configuration comes to."""

import shlex
from operator import attrgetter

from shpeft.config import RunConfig

PLACES = {
    "backbone": "backbone.name",
    "weights": "backbone.weights",
    "image_size": "backbone.image_size",
    "data": "dataset.source",
    "val_fraction": "dataset.val_fraction",
    "test_fraction": "dataset.test_fraction",
    "window": "dataset.window",
    "frame": "dataset.frame",
    "columns": "dataset.columns",
    "on_unreadable": "dataset.on_unreadable",
    "leakage": "dataset.leakage",
    "image_cache": "dataset.cache",
    "budget": "selection.budget",
    "score": "selection.score",
    "formula": "selection.formula",
    "norm": "selection.norm",
    "lam": "selection.lam",
    "normaliser": "selection.normaliser",
    "scope": "selection.scope",
    "score_images": "selection.images",
    "expectation": "selection.expectation",
    "spread": "selection.spread",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",
    "lr": "training.lr",
    "head_lr": "training.head_lr",
    "weight_decay": "training.weight_decay",
    "augment": "training.augment",
    "cache": "training.cache",
    "checkpointing": "training.checkpointing",
    "compiled": "training.compiled",
    "seed": "seed",
    "device": "device",
    "precision": "precision",
}
"""Where in the configuration each flag belongs."""


def command(config: RunConfig) -> str:
    """The ``shpeft finetune`` that does the same run; settings that are the defaults are left out.

    Where a table's column has a name that no flag can hold, it is the command for the configuration as a file.
    """
    default, words = RunConfig(), ["shpeft", "finetune"]
    for flag, place in PLACES.items():
        value = attrgetter(place)(config)
        if value == attrgetter(place)(default) or value is None:
            continue
        name = flag.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", _text(value)]
    unspeakable = any(set(",=") & set(column) or column != column.strip() for column in config.dataset.columns.values())
    return "shpeft finetune --config config.yaml" if unspeakable else shlex.join(words)


def _text(value: object) -> str:
    """A setting as a flag takes it."""
    return ",".join(f"{name}={column}" for name, column in value.items()) if isinstance(value, dict) else str(value)

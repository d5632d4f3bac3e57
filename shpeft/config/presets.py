"""Presets: settings that belong together."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that belong together.

    Attributes:
        title: the preset's name, as shown to the user.
        help: what it does, to follow the title.
        settings: the values, by section and setting.
    """

    title: str
    help: str
    settings: dict[str, dict[str, Any]]


PRESETS = {
    "fast": Preset(
        "Fast",
        "only the last quarter of the blocks may change; the blocks below run once per image",
        {
            "selection": {"scope": "last:25%", "expectation": "all", "spread": "none"},
            "training": {"cache": True, "checkpointing": "auto"},
        },
    ),
    "balanced": Preset(
        "Balanced",
        "only the last half of the blocks may change; the blocks below run once per image",
        {
            "selection": {"scope": "last:50%", "expectation": "all", "spread": "none"},
            "training": {"cache": True, "checkpointing": "auto"},
        },
    ),
    "thorough": Preset(
        "Thorough",
        "the matrices of all blocks may change",
        {"selection": {"scope": "matrices", "expectation": "all", "spread": "none"}},
    ),
    "paper": Preset(
        "Paper",
        "like thorough, with weights scored by the gradients of batches, our reading of the paper",
        {"selection": {"scope": "matrices", "expectation": "batch", "spread": "none"}},
    ),
}
"""Each preset by the name that the command line takes."""

SETTINGS_OF_OLD_RUNS = {
    "selection": {"expectation": "batch", "spread": "none", "scope": "matrices"},
    "training": {"average": "none"},
}
"""The settings of runs whose files do not have them: they were written before, or when the default was another one."""


def preset_help() -> str:
    """Return a sentence on every preset."""
    return "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items()) + "."

"""The configuration of a run: its schema, presets, YAML documents, reference and command."""

from shpeft.config.command_line import command
from shpeft.config.documents import Document, Section, differences, fields, limits, same_as
from shpeft.config.presets import PRESETS, Preset
from shpeft.config.reference import option, reference_markdown, setting
from shpeft.config.schema import (
    EMBEDDED,
    BackboneConfig,
    DatasetConfig,
    RunConfig,
    SelectionConfig,
    Setting,
    TrainingConfig,
)

__all__ = [
    "EMBEDDED",
    "PRESETS",
    "BackboneConfig",
    "DatasetConfig",
    "Document",
    "Preset",
    "RunConfig",
    "Section",
    "SelectionConfig",
    "Setting",
    "TrainingConfig",
    "command",
    "differences",
    "fields",
    "limits",
    "option",
    "reference_markdown",
    "same_as",
    "setting",
]

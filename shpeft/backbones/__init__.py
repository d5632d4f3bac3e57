"""Backbones: timm classifiers by name, with their weights, their input transform and their eligible weights."""

from shpeft.backbones.create import create_backbone, list_backbones, resolve_device
from shpeft.backbones.model import Backbone
from shpeft.backbones.places import WeightInfo

__all__ = ["Backbone", "WeightInfo", "create_backbone", "list_backbones", "resolve_device"]

"""Backbones: timm classifiers by name, with pretrained weights, input transform and selectable weights."""

from shpeft.backbones.create import create_backbone, list_backbones, resolve_device
from shpeft.backbones.model import Backbone
from shpeft.backbones.timm_format import load_timm, save_timm
from shpeft.backbones.weight_info import WeightInfo

__all__ = ["Backbone", "WeightInfo", "create_backbone", "list_backbones", "load_timm", "resolve_device", "save_timm"]

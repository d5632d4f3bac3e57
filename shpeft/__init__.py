"""shpeft: adapt a large vision model to a medical diagnosis task by training about 0.01 % of its weights."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shpeft.attribution import StrengthCurve, WeightAttribution, attribute_weights, strength_curve
    from shpeft.backbones import Backbone, create_backbone, list_backbones
    from shpeft.config import RunConfig
    from shpeft.datasets import Dataset, Split, load_dataset
    from shpeft.delta import SparseDelta
    from shpeft.deltafile import load_delta, save_delta
    from shpeft.diagnosis import Diagnosis, diagnose
    from shpeft.errors import ShpeftError
    from shpeft.evaluation import Metrics, Predictions, difference, evaluate, predict
    from shpeft.importance import Scores, estimate_importance
    from shpeft.overlaps import Overlap, overlap
    from shpeft.probe import Head, fit_head
    from shpeft.reports import report
    from shpeft.saliency import Localisation, Saliency, Sanity, check_saliency, explain, localise
    from shpeft.selection import Support, select
    from shpeft.shortcut import ShortcutCheck, shortcut_check
    from shpeft.switching import Switchboard
    from shpeft.training import EpochReport, finetune

__version__ = "0.1.0"

NOTICE = "Research use only, not a medical device."
"""Stands wherever a diagnosis is shown."""

_HOMES = {
    "Backbone": "backbones",
    "Dataset": "datasets",
    "Diagnosis": "diagnosis",
    "EpochReport": "training",
    "Head": "probe",
    "Localisation": "saliency",
    "Metrics": "evaluation",
    "Overlap": "overlaps",
    "Predictions": "evaluation",
    "RunConfig": "config",
    "Saliency": "saliency",
    "Sanity": "saliency",
    "Scores": "importance",
    "ShortcutCheck": "shortcut",
    "ShpeftError": "errors",
    "SparseDelta": "delta",
    "Split": "datasets",
    "StrengthCurve": "attribution",
    "Support": "selection",
    "Switchboard": "switching",
    "WeightAttribution": "attribution",
    "attribute_weights": "attribution",
    "check_saliency": "saliency",
    "create_backbone": "backbones",
    "diagnose": "diagnosis",
    "difference": "evaluation",
    "estimate_importance": "importance",
    "evaluate": "evaluation",
    "explain": "saliency",
    "finetune": "training",
    "fit_head": "probe",
    "list_backbones": "backbones",
    "load_dataset": "datasets",
    "load_delta": "deltafile",
    "localise": "saliency",
    "overlap": "overlaps",
    "predict": "evaluation",
    "report": "reports",
    "save_delta": "deltafile",
    "select": "selection",
    "shortcut_check": "shortcut",
    "strength_curve": "attribution",
}

__all__ = [
    "Backbone",
    "Dataset",
    "Diagnosis",
    "EpochReport",
    "Head",
    "Localisation",
    "Metrics",
    "Overlap",
    "Predictions",
    "RunConfig",
    "Saliency",
    "Sanity",
    "Scores",
    "ShortcutCheck",
    "ShpeftError",
    "SparseDelta",
    "Split",
    "StrengthCurve",
    "Support",
    "Switchboard",
    "WeightAttribution",
    "attribute_weights",
    "check_saliency",
    "create_backbone",
    "diagnose",
    "difference",
    "estimate_importance",
    "evaluate",
    "explain",
    "finetune",
    "fit_head",
    "list_backbones",
    "load_dataset",
    "load_delta",
    "localise",
    "overlap",
    "predict",
    "report",
    "save_delta",
    "select",
    "shortcut_check",
    "strength_curve",
]


def __getattr__(name: str) -> Any:
    """Load a public name's module when the name is first used: ``import shpeft`` alone does not load torch."""
    if name in _HOMES:
        return getattr(import_module(f"shpeft.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'shpeft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

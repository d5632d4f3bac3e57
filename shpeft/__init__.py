"""shpeft: adapt a large vision model to a medical diagnosis task by training about 0.01 % of its weights."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shpeft.backbones import Backbone, create_backbone, list_backbones
    from shpeft.config.schema import RunConfig
    from shpeft.datasets import Dataset, Split, load_dataset
    from shpeft.delta.file import load_delta, save_delta
    from shpeft.delta.sparse_delta import SparseDelta
    from shpeft.delta.switchboard import Switchboard
    from shpeft.diagnosis import Diagnosis, diagnose
    from shpeft.errors import ShpeftError
    from shpeft.evaluation.findings import FindingMetrics, evaluate_findings
    from shpeft.evaluation.metrics import Metrics, difference, evaluate
    from shpeft.evaluation.predict import Predictions, predict
    from shpeft.evaluation.regression import RegressionMetrics, evaluate_regression
    from shpeft.explanation.attribution import StrengthCurve, WeightAttribution, attribute_weights, strength_curve
    from shpeft.explanation.saliency import Localization, Saliency, Sanity, check_saliency, explain, localize
    from shpeft.explanation.shortcut import ShortcutCheck, check_shortcut
    from shpeft.importance.scores import Scores, estimate_importance
    from shpeft.linear_probe import Head, fit_linear_probe
    from shpeft.pipeline import LoadedRun, load_run, run
    from shpeft.reports import report
    from shpeft.runs import RunFolder, find_run, list_runs
    from shpeft.selection.overlap import Overlap, overlap
    from shpeft.selection.top_k import Support, select
    from shpeft.training.loop import EpochReport, finetune

__version__ = "0.2.0"

NOTICE = "Research use only, not a medical device."
"""Shown wherever a diagnosis is shown."""

_SUBMODULES = frozenset(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
_HOMES = {
    "Backbone": "backbones",
    "Dataset": "datasets",
    "Diagnosis": "diagnosis",
    "EpochReport": "training.loop",
    "Head": "linear_probe",
    "LoadedRun": "pipeline",
    "Localization": "explanation.saliency",
    "FindingMetrics": "evaluation.findings",
    "Metrics": "evaluation.metrics",
    "Overlap": "selection.overlap",
    "Predictions": "evaluation.predict",
    "RegressionMetrics": "evaluation.regression",
    "RunConfig": "config.schema",
    "RunFolder": "runs",
    "Saliency": "explanation.saliency",
    "Sanity": "explanation.saliency",
    "Scores": "importance.scores",
    "ShortcutCheck": "explanation.shortcut",
    "ShpeftError": "errors",
    "SparseDelta": "delta.sparse_delta",
    "Split": "datasets",
    "StrengthCurve": "explanation.attribution",
    "Support": "selection.top_k",
    "Switchboard": "delta.switchboard",
    "WeightAttribution": "explanation.attribution",
    "attribute_weights": "explanation.attribution",
    "check_saliency": "explanation.saliency",
    "check_shortcut": "explanation.shortcut",
    "create_backbone": "backbones",
    "diagnose": "diagnosis",
    "difference": "evaluation.metrics",
    "estimate_importance": "importance.scores",
    "evaluate": "evaluation.metrics",
    "evaluate_findings": "evaluation.findings",
    "evaluate_regression": "evaluation.regression",
    "explain": "explanation.saliency",
    "find_run": "runs",
    "finetune": "training.loop",
    "fit_linear_probe": "linear_probe",
    "list_backbones": "backbones",
    "list_runs": "runs",
    "load_dataset": "datasets",
    "load_delta": "delta.file",
    "load_run": "pipeline",
    "localize": "explanation.saliency",
    "overlap": "selection.overlap",
    "predict": "evaluation.predict",
    "report": "reports",
    "run": "pipeline",
    "save_delta": "delta.file",
    "select": "selection.top_k",
    "strength_curve": "explanation.attribution",
}

_DEPRECATED = {"fit_head": "linear_probe"}
"""Old names that warn; they go with the next release."""

__all__ = [
    "Backbone",
    "Dataset",
    "Diagnosis",
    "EpochReport",
    "FindingMetrics",
    "Head",
    "LoadedRun",
    "Localization",
    "Metrics",
    "Overlap",
    "Predictions",
    "RegressionMetrics",
    "RunConfig",
    "RunFolder",
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
    "check_shortcut",
    "create_backbone",
    "diagnose",
    "difference",
    "estimate_importance",
    "evaluate",
    "evaluate_findings",
    "evaluate_regression",
    "explain",
    "find_run",
    "finetune",
    "fit_linear_probe",
    "list_backbones",
    "list_runs",
    "load_dataset",
    "load_delta",
    "load_run",
    "localize",
    "overlap",
    "predict",
    "report",
    "run",
    "save_delta",
    "select",
    "strength_curve",
]


def __getattr__(name: str) -> Any:
    """Import a public name or a submodule on first use, so that ``import shpeft`` does not load torch."""
    if home := (_HOMES | _DEPRECATED).get(name):
        return getattr(import_module(f"shpeft.{home}"), name)
    if name in _SUBMODULES:
        return import_module(f"shpeft.{name}")
    raise AttributeError(f"module 'shpeft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})

"""The measured part of a cell's record: metrics on its test images and further test sets, and sizes."""

import math
from collections.abc import Sequence

import numpy as np

from shpeft.backbones import Backbone
from shpeft.compare.measures import AT_TEMPERATURE, measures_of
from shpeft.compare.running.task import Task
from shpeft.compare.running.training import FittedModel
from shpeft.compare.table import Record
from shpeft.evaluation.by_task import Temperature, at_temperature, metric_names, metrics_of, replicates_of
from shpeft.evaluation.predict import Predictions


def measure(fitted: FittedModel, backbone: Backbone, predictions: Predictions, temperature: Temperature) -> Record:
    """Return the measured part of a record: the task's metrics on the test images, and sizes."""
    head = backbone.head_weight_count
    return {
        **_metrics(predictions, temperature),
        "trained": fitted.trained,
        "share": fitted.trained / backbone.weight_count,
        "share_with_head": (fitted.trained + head) / (backbone.weight_count + head),
        "bytes": fitted.bytes,
    }


def measure_shifts(task: Task, shifted: Sequence[Predictions], temperature: Temperature) -> dict[str, Record]:
    """Return the metrics on each further test set, at the temperature of the dataset's own validation images."""
    return {
        name: {"data": split.fingerprint, "cases": {"test": len(split)}, **_metrics(predictions, temperature)}
        for (name, split), predictions in zip(task.shifted.items(), shifted, strict=True)
    }


def _metrics(predictions: Predictions, temperature: Temperature) -> Record:
    """Return the task's metrics, and those of each class."""
    metrics, measures = metrics_of(predictions, resamples=0), measures_of(predictions.task)
    values = {name: metrics[name]["value"] for name in metric_names(predictions.task)}
    calibrated = replicates_of(at_temperature(predictions, temperature), np.ones((1, len(predictions.labels))))
    values |= {name: float(calibrated[AT_TEMPERATURE[name]][0]) for name in measures.calibrated}
    by_class = measures.by_class
    return {
        **{name: _known(value) for name, value in values.items()},
        **({} if temperature is None else {"temperature": temperature}),
        **({by_class: [_known(row[by_class]["value"]) for row in metrics["per_class"]]} if by_class else {}),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value

"""What evaluation makes of each task: the metrics of a test, their differences, and the loss that selects an epoch."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft.errors import ClassMismatch, ConfigError
from shpeft.evaluation import metrics
from shpeft.evaluation.finding_reliability import FindingReliability, fit_finding_reliability
from shpeft.evaluation.findings import (
    FINDING_METRICS,
    evaluate_findings,
    finding_difference,
    finding_refinement_loss,
    finding_replicates,
    of_finding,
)
from shpeft.evaluation.gate import OODDistances
from shpeft.evaluation.grades import (
    GRADE_METRICS,
    evaluate_grades,
    grade_difference,
    grade_refinement_loss,
    grade_replicates,
)
from shpeft.evaluation.metrics import Interval
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.prediction_interval import IntervalReliability, IntervalRule, fit_interval
from shpeft.evaluation.regression import (
    REGRESSION_METRICS,
    evaluate_regression,
    regression_difference,
    regression_replicates,
    squared_error_loss,
)
from shpeft.evaluation.reliability import DecisionRules, Reliability, fit_reliability
from shpeft.evaluation.temperature import calibrate, fit_temperature, refinement_loss
from shpeft.tasks import MultiLabel, Ordinal, Regression, Task

Array = NDArray[np.float64]

Temperature = float | Sequence[float] | None
"""Of classes one, of findings one each; None: the task has no probabilities to calibrate."""

AnyReliability = Reliability | FindingReliability | IntervalReliability
"""The reliability of a model: of single labels, of each finding, or of a number."""

AnyRules = DecisionRules | dict[str, DecisionRules] | IntervalRule
"""The user's choices for a model: of single labels, of each finding, or of a number."""


def metric_names(task: Task) -> tuple[str, ...]:
    """Return the metrics of a task that have a difference.

    Examples:
        >>> import shpeft
        >>> metric_names(shpeft.tasks.MULTI_LABEL)
        ('macro_auroc', 'macro_average_precision', 'brier')
    """
    if isinstance(task, MultiLabel):
        return FINDING_METRICS
    if isinstance(task, Regression):
        return REGRESSION_METRICS
    return (*GRADE_METRICS, *metrics.METRICS) if isinstance(task, Ordinal) else metrics.METRICS


def metrics_of(predictions: Predictions, *, resamples: int = 1000) -> dict[str, Any]:
    """Return the metrics of the predictions' task as plain values, each with its 95 % interval."""
    if isinstance(predictions.task, MultiLabel):
        return evaluate_findings(predictions, resamples=resamples).to_dict()
    if isinstance(predictions.task, Regression):
        return evaluate_regression(predictions, resamples=resamples).to_dict()
    grades = evaluate_grades(predictions, resamples=resamples) if isinstance(predictions.task, Ordinal) else {}
    return metrics.evaluate(predictions, resamples=resamples).to_dict() | {n: asdict(i) for n, i in grades.items()}


def replicates_of(predictions: Predictions, weights: Array, *, auroc: bool = True) -> dict[str, Array]:
    """Return every metric of the predictions' task for each row of case weights (R, N): arrays (R,).

    Those by class or finding are (R, C). Classes and findings have ``log_loss`` as well, in nats.

    Args:
        weights: of ones for the metric itself, of multiplicities for a resample.
        auroc: whether to compute the AUROC of classes, which takes nearly all of the time.

    Examples:
        >>> import numpy as np, shpeft
        >>> cases, task = tuple("abc"), shpeft.tasks.Regression(unit="mm")
        >>> sizes = shpeft.Predictions(cases, (4.0, 5.0, 6.0), cases, ("size",), np.full((3, 1), 5.0), task=task)
        >>> replicates_of(sizes, np.array([[1.0, 1, 1], [0, 3, 0]]))["mae"].round(2).tolist()
        [0.67, 0.0]
    """
    if isinstance(predictions.task, MultiLabel):
        return finding_replicates(predictions, weights)
    if isinstance(predictions.task, Regression):
        return regression_replicates(predictions, weights)
    grades = grade_replicates(predictions, weights) if isinstance(predictions.task, Ordinal) else {}
    return metrics.weighted_metrics(predictions, weights, auroc=auroc) | grades


def fit_temperatures(validation: Predictions) -> Temperature:
    """Return the temperature that fits these cases: of classes one, of findings one each, of numbers none."""
    if isinstance(validation.task, Regression):
        return None
    if isinstance(validation.task, MultiLabel):
        parts = (of_finding(validation, name) for name in validation.classes)
        return tuple(fit_temperature(part.probabilities, part.labels)[0] if part.labels else 1.0 for part in parts)
    return fit_temperature(validation.probabilities, validation.labels)[0]


def at_temperature(predictions: Predictions, temperature: Temperature) -> Predictions:
    """Return the same cases with calibrated probabilities."""
    if temperature is None:
        return predictions
    if isinstance(temperature, Sequence):
        p = predictions.probabilities
        sides = np.stack([1 - p, p], axis=2)
        columns = [calibrate(sides[:, c], t)[:, 1] for c, t in enumerate(temperature)]
        return replace(predictions, probabilities=np.stack(columns, axis=1))
    return replace(predictions, probabilities=calibrate(predictions.probabilities, temperature))


def difference(a: Predictions, b: Predictions) -> dict[str, Interval]:
    """Return the paired difference a − b of every metric, from the same resamples of the same cases.

    Raises:
        ClassMismatch: the two sets of predictions are of different cases or classes.
    """
    if isinstance(a.task, Regression):
        metrics.check_paired(a, b)
        return regression_difference(a, b)
    if not isinstance(a.task, MultiLabel):
        return metrics.difference(a, b) | (grade_difference(a, b) if isinstance(a.task, Ordinal) else {})
    metrics.check_paired(a, b)
    return finding_difference(a, b)


def change(external: Predictions, internal: Predictions) -> dict[str, Interval]:
    """Return the difference external − internal of every metric between two sets of cases.

    Raises:
        ClassMismatch: the two sets have different classes.
    """
    if isinstance(external.task, Regression):
        return regression_difference(external, internal, paired=False)
    if not isinstance(external.task, MultiLabel):
        grades = grade_difference(external, internal, paired=False) if isinstance(external.task, Ordinal) else {}
        return metrics.change(external, internal) | grades
    if external.classes != internal.classes:
        raise ClassMismatch("The findings of the two sets differ. Use the same model.")
    return finding_difference(external, internal, paired=False)


def fit_any_reliability(
    validation: Predictions,
    rules: AnyRules | None = None,
    test: Predictions | None = None,
    distances: OODDistances | None = None,
) -> AnyReliability:
    """Fit calibration and decision rules as the task of the predictions has them; see ``fit_reliability``."""
    if isinstance(validation.task, Regression):
        if isinstance(rules, DecisionRules) and rules.threshold is not None:
            raise ConfigError(
                f"The rules have a threshold for {rules.threshold.positive!r}, and the task is regression, which has "
                "no classes. Leave the class out; --coverage sets the prediction interval."
            )
        coverage = rules.sets.coverage if isinstance(rules, DecisionRules) else IntervalRule().coverage
        rule = rules if isinstance(rules, IntervalRule) else IntervalRule(coverage)
        return fit_interval(validation, rule, test, distances)
    assert not isinstance(rules, IntervalRule)
    if isinstance(validation.task, MultiLabel):
        return fit_finding_reliability(validation, rules, test, distances)
    assert not isinstance(rules, dict)
    return fit_reliability(validation, rules, test, distances)


def validation_loss(predictions: Predictions, weights: Sequence[float] | None = None) -> float:
    """Return the task's mean loss at the temperatures that fit these cases; see ``refinement_loss``.

    Args:
        weights: factors of the cases, of single labels.
    """
    if isinstance(predictions.task, MultiLabel):
        return finding_refinement_loss(predictions)
    if isinstance(predictions.task, Regression):
        return squared_error_loss(predictions)
    if isinstance(predictions.task, Ordinal):
        return grade_refinement_loss(predictions)
    return refinement_loss(predictions.probabilities, predictions.labels, weights)


def validation_scores(predictions: Predictions) -> tuple[float, float]:
    """Return macro AUROC and balanced accuracy; NaN for what the task does not have."""
    if isinstance(predictions.task, Regression):
        return float("nan"), float("nan")
    if isinstance(predictions.task, MultiLabel):
        return evaluate_findings(predictions, resamples=0).macro_auroc.value, float("nan")
    measured = metrics.evaluate(predictions, resamples=0)
    return measured.macro_auroc.value, measured.balanced_accuracy.value

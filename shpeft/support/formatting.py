"""Text for numbers and metrics: intervals, percentages and display names."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_auroc": "Macro AUROC",
    "macro_f1": "Macro F1",
    "mcc": "Matthews correlation",
    "ece": "Calibration error (lower is better)",
    "brier": "Brier score (lower is better)",
}

TITLES = {
    "quadratic_kappa": "Quadratic weighted kappa",
    "grade_error": "Mean absolute grade error (lower is better)",
    **METRICS,
    "macro_average_precision": "Macro average precision",
    "mae": "Mean absolute error (lower is better)",
    "rmse": "Root mean squared error (lower is better)",
    "r2": "R²",
    "bias": "Mean error, predicted minus true (0 is best)",
}
"""Every metric of a run, of whatever task."""

MAIN = ("quadratic_kappa", "balanced_accuracy", "macro_auroc", "macro_average_precision", "mae", "r2")
"""The metrics that stand for a run in a line; a task has some of them."""

LISTED = {"quadratic_kappa": "kappa", "mae": "MAE", "macro_auroc": "AUROC"}
"""The metric that stands for a run in a list, and its short title; a task has one of the first two, or the last."""

CLASS_COLUMNS = {
    "name": "class",
    "cases": "test images",
    "known": "known",
    "recall": "recall",
    "auroc": "AUROC",
    "average_precision": "average precision",
}
"""What a row about one class or finding has, and its title."""

METRIC_TITLES = TITLES | {
    "log_loss": "Log loss, calibrated (lower is better)",
    "brier_calibrated": "Brier score, calibrated (lower is better)",
    "ece_calibrated": "Calibration error, calibrated (lower is better)",
}
"""Every metric of a comparison, of whatever task."""


def metrics_of_task(values: Mapping[str, object]) -> dict[str, str]:
    """Return the titles of the metrics that a test has; what its task lacks is absent.

    Examples:
        >>> metrics_of_task({"cases": 3, "macro_auroc": {}, "macro_average_precision": {}})
        {'macro_auroc': 'Macro AUROC', 'macro_average_precision': 'Macro average precision'}
    """
    return {name: title for name, title in TITLES.items() if name in values}


def main_metrics(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the metrics that stand for a run, of those that a test has.

    Examples:
        >>> main_metrics({"mae": 1.2, "rmse": 1.5, "r2": 0.7})
        ('mae', 'r2')
    """
    return tuple(name for name in MAIN if name in values)


def listed_metric(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the metric that stands for a run in a list of runs, and its title with the unit of an error.

    Examples:
        >>> listed_metric({"mae": {}, "r2": {}, "unit": "mm"}), listed_metric({"macro_auroc": {}, "ece": {}})
        (('mae', 'MAE, mm'), ('macro_auroc', 'AUROC'))
    """
    name = next(name for name in LISTED if name in values)
    unit = values.get("unit") if name == "mae" else None
    return name, f"{LISTED[name]}, {unit}" if unit else LISTED[name]


def class_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a test's results by class or finding as text, under their titles.

    Examples:
        >>> class_table([{"name": "ill", "cases": 1200, "recall": {"value": 0.9, "low": 0.8, "high": 1.0}}])
        [{'class': 'ill', 'test images': '1200', 'recall': '0.900 [0.800, 1.000]'}]
    """
    return [
        {
            title: interval(row[name]) if isinstance(row[name], Mapping) else str(row[name])
            for name, title in CLASS_COLUMNS.items()
            if name in row
        }
        for row in rows
    ]


def interval(estimate: Mapping[str, float | None], sign: bool = False) -> str:
    """Return a value with its confidence interval; with ``sign``, as a difference.

    Args:
        estimate: the keys ``value``, ``low`` and ``high``; None is shown as ``n/a``.
        sign: write the sign of positive numbers, too.

    Examples:
        >>> interval({"value": 0.842, "low": 0.781, "high": None})
        '0.842 [0.781, n/a]'
        >>> interval({"value": 0.031, "low": -0.002, "high": 0.06}, sign=True)
        '+0.031 [-0.002, +0.060]'
    """
    value, low, high = (
        "n/a" if (number := estimate[key]) is None else f"{number:{'+' if sign else ''}.3f}"
        for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def spread(estimate: Mapping[str, float | None], sign: bool = False) -> str:
    """Return the mean of several runs with standard deviation and interval, or the mean alone of one run.

    Args:
        estimate: the keys ``mean``, ``sd``, ``low`` and ``high``; None is unknown.
        sign: write the sign of positive means and bounds, too.

    Examples:
        >>> spread({"mean": 0.82, "sd": 0.02, "low": 0.77, "high": 0.87})
        '0.820 ± 0.020 [0.770, 0.870]'
        >>> spread({"mean": 0.82, "sd": None, "low": None, "high": None})
        '0.820'
    """
    form = "+.3f" if sign else ".3f"
    mean, sd, low, high = (
        "n/a" if (number := estimate[key]) is None else format(number, ".3f" if key == "sd" else form)
        for key in ("mean", "sd", "low", "high")
    )
    return mean if estimate["sd"] is None else f"{mean} ± {sd} [{low}, {high}]"


def training_result(training: Mapping[str, Any]) -> str:
    """Return which epochs gave the result of a run, in words.

    Args:
        training: of ``metrics.json``: ``best_epoch``, and ``averaged``, which older runs lack.

    Examples:
        >>> training_result({"best_epoch": 3})
        'epoch 3 was the best on the validation images'
        >>> training_result({"best_epoch": 16, "averaged": 4})
        'the result is the mean of the weights after epochs 13 to 16'
        >>> training_result({"best_epoch": 0, "averaged": 0})
        'no epoch was better than the start on the validation images, so this model is the linear probe'
    """
    best, averaged = training["best_epoch"], training.get("averaged", 0)
    if not best:
        return "no epoch was better than the start on the validation images, so this model is the linear probe"
    if averaged == 1:
        return f"the result is epoch {best}"
    if averaged:
        return f"the result is the mean of the weights after epochs {best - averaged + 1} to {best}"
    return f"epoch {best} was the best on the validation images"


def percent(share: float) -> str:
    """Return a share of weights as a percentage, with more digits if it is tiny.

    Examples:
        >>> percent(1e-4), percent(1.234e-6)
        ('0.010 %', '0.00012 %')
    """
    return f"{100 * share:.3f} %" if share >= 5e-6 else f"{100 * share:.2g} %"


def measured(value: float, precision: float | None = None) -> str:
    """Return a number in as many decimals as show two digits of its precision; without one, in three digits.

    Examples:
        >>> measured(42.13, 6.1), measured(1234.5, 310.0), measured(0.04213), measured(-0.01, 6.1)
        ('42.1', '1234', '0.0421', '0.0')
    """
    scale = abs(value) / 100 if precision is None else abs(precision) / 10
    decimals = max(0, -math.floor(math.log10(scale))) if scale > 0 and math.isfinite(scale) else 0
    text = f"{value:.{min(decimals, 12)}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def probability(p: float) -> str:
    """Return a probability as a percentage; never as 0 or 100, which would claim certainty.

    Examples:
        >>> probability(0.0384), probability(0.99996)
        ('3.8 %', 'over 99.9 %')
    """
    if p >= 0.9995:
        return "over 99.9 %"
    return "below 0.1 %" if p < 0.0005 else f"{100 * p:.1f} %"


def short_count(n: int) -> str:
    """Return a count in three digits: ``987``, ``12.3K``, ``10.9M``.

    >>> short_count(987), short_count(12_345), short_count(10_940_000)
    ('987', '12.3K', '10.9M')
    """
    if n < 1_000:
        return str(n)
    return f"{n / 1e3:.1f}K" if n < 1e6 else f"{n / 1e6:.1f}M"

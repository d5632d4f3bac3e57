"""The report's section on calibration: errors before and after temperature scaling, and those by chance."""

import numpy as np

from shpeft.compare.analysis.bootstrap import calibration_by_chance
from shpeft.compare.analysis.formatting import format_difference, points
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import CALIBRATED, NONE
from shpeft.compare.report.markdown import VERDICT_LABELS, table
from shpeft.evaluation.by_task import at_temperature


def calibration_section(bootstrap: Bootstrap) -> str:
    """Write the expected calibration error of every arm, and its difference to the baseline's with an interval.

    Empty where the task has no such error, or without a baseline.
    """
    results = bootstrap.results
    baseline = results.baseline(results.metric)
    if baseline is None or CALIBRATED not in results.measures.every:
        return ""
    scaled = [record for record in results.records if "temperature" in record]
    head, rows = ["arm", *_head(baseline, "ECE")], []
    if scaled:
        head += ["temperature", *_head(baseline, "ECE after scaling")]
    for entry in results.entries:
        cells = [entry.title, *_error(bootstrap, entry, baseline, "ece")]
        if scaled:
            temperatures = [record["temperature"] for record in results.rows(entry) if "temperature" in record]
            cells += [f"{np.median(temperatures):.2f}" if temperatures else NONE]
            cells += _error(bootstrap, entry, baseline, CALIBRATED)
        rows.append(cells)
    finished = sum(record["status"] == "finished" for record in results.records)
    return (
        f"## Calibration\n\n{table(head, rows)}\n\nExpected calibration error (ECE) in points, 15 bins of the top "
        "probability, mean over datasets; smaller is better. It exceeds 0 even if every probability is correct: the "
        "columns by chance show what correct probabilities would give on such test images. The bootstrap adds to this "
        "bias, most where the error is smallest, so the intervals are shifted by twice the bias that it shows. They "
        "hold for errors on this many images: the true difference is usually larger, and the intervals are too narrow "
        f"for it. {_temperatures(len(scaled), finished)}"
    )


def _head(baseline: Entry, name: str) -> list[str]:
    return [name, "by chance", f"minus {baseline.title}", "verdict"]


def _error(bootstrap: Bootstrap, entry: Entry, baseline: Entry, metric: str) -> list[str]:
    results = bootstrap.results
    comparison = None if entry == baseline else bootstrap.compare(entry, baseline, metric)
    against = [NONE, NONE]
    if comparison is not None:
        against = [format_difference(comparison), VERDICT_LABELS[comparison.mean.verdict]]
    return [points(results.mean(entry, metric)), points(_by_chance(results, entry, metric)), *against]


def _by_chance(results: Results, entry: Entry, metric: str) -> float | None:
    """Return the error that an arm's probabilities would show if they were correct; None if a dataset is missing."""
    means = []
    for dataset in results.plan.datasets:
        errors = []
        for record in results.rows(entry, dataset):
            if record.get(metric) is not None:
                predictions = results.predictions(record["key"])
                if metric == CALIBRATED:
                    predictions = at_temperature(predictions, record["temperature"])
                errors.append(calibration_by_chance(predictions.probabilities.max(1)))
        means.append(errors)
    return float(np.mean([np.mean(errors) for errors in means])) if all(means) else None


def _temperatures(scaled: int, finished: int) -> str:
    if not scaled:
        return (
            "These probabilities are not calibrated: the cells of this table record no temperature, as newer cells do. "
            "The app fits a temperature to the validation images of every model."
        )
    coverage = "" if scaled == finished else f" {scaled} of {finished} cells record one; the others are older."
    return (
        "After scaling: at the temperature that is fitted to the validation images, of which the median is shown."
        f"{coverage}"
    )

"""The report's section on calibration: errors before and after a temperature, beside what chance gives."""

import numpy as np

from shpeft.compare import statistics
from shpeft.compare.claims import difference_told
from shpeft.compare.duels import Bootstrap
from shpeft.compare.markdown import NONE, WORDS, points, table
from shpeft.compare.results import Entry, Results
from shpeft.compare.table import CALIBRATED, at_temperature


def calibration_section(bootstrap: Bootstrap) -> str:
    """The expected calibration error of every arm, and its difference to the floor's with an interval."""
    results = bootstrap.results
    floor = results.floor(results.plan.report.metric)
    if floor is None:
        return ""
    tempered = [record for record in results.records if "temperature" in record]
    head, rows = ["arm", *_head(floor, "ECE")], []
    if tempered:
        head += ["temperature", *_head(floor, "ECE then")]
    for entry in results.entries:
        cells = [entry.title, *_error(bootstrap, entry, floor, "ece")]
        if tempered:
            found = [record["temperature"] for record in results.rows(entry) if "temperature" in record]
            cells += [f"{np.median(found):.2f}" if found else NONE, *_error(bootstrap, entry, floor, CALIBRATED)]
        rows.append(cells)
    finished = sum(record["status"] == "finished" for record in results.records)
    return (
        f"## Calibration\n\n{table(head, rows)}\n\nExpected calibration error (ECE), in points, 15 bins of the top "
        "probability, mean over datasets; smaller is better. It is above 0 even where every probability is right: "
        "by chance is what such test images would show if each arm's probabilities were right. The bootstrap adds to "
        "this once more, and most where there is least to find, so the intervals are moved by twice the bias that it "
        "shows. They are about errors as so many images show them: the true difference is larger as a rule, and "
        f"these intervals are too narrow for it. {_temperatures(len(tempered), finished)}"
    )


def _head(floor: Entry, name: str) -> list[str]:
    return [name, "by chance", f"minus {floor.title}", ""]


def _error(bootstrap: Bootstrap, entry: Entry, floor: Entry, metric: str) -> list[str]:
    results = bootstrap.results
    duel = None if entry == floor else bootstrap.duel(entry, floor, metric)
    against = [NONE, NONE] if duel is None else [difference_told(duel), WORDS[duel.mean.verdict]]
    return [points(results.mean(entry, metric)), points(_by_chance(results, entry, metric)), *against]


def _by_chance(results: Results, entry: Entry, metric: str) -> float | None:
    """The error that an arm's probabilities would show if they were right; None unless every dataset is there."""
    means = []
    for dataset in results.plan.datasets:
        found = []
        for record in results.rows(entry, dataset):
            if record.get(metric) is not None:
                predictions = results.predictions(record["key"])
                if metric == CALIBRATED:
                    predictions = at_temperature(predictions, record["temperature"])
                found.append(statistics.calibration_by_chance(predictions.probabilities.max(1)))
        means.append(found)
    return float(np.mean([np.mean(found) for found in means])) if all(means) else None


def _temperatures(tempered: int, finished: int) -> str:
    if not tempered:
        return (
            "These are the probabilities as training left them: no cell here says which temperature its validation "
            "images fit, as cells do that are run today. The app fits one to every model, so this is before that."
        )
    says = "" if tempered == finished else f" {tempered} of {finished} cells say theirs; the others are older."
    return f"Then: at the temperature that the validation images fit, of which the median is shown.{says}"

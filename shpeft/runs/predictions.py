"""``predictions.csv`` and ``predictions_val.csv``: what a run's models predict for the test and validation images."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shpeft.runs.run_file import RunFile, entry
from shpeft.support.spreadsheet import as_text, as_written

if TYPE_CHECKING:
    from shpeft.evaluation.predict import Predictions


class PredictionFiles:
    """The predictions of a run: of its models for the test images, of the fine-tuned one for the validation images."""

    def __init__(self, folder: Path) -> None:
        self._test, self._validation = RunFile(folder, "predictions.csv"), RunFile(folder, "predictions_val.csv")

    def write_test(self, predictions: "Mapping[str, Predictions]") -> None:
        """Write the test predictions of one or more models for the same cases: ``finetuned probe``."""
        self._test.write(predictions_text(predictions))

    def test(self, model: str = "finetuned") -> "Predictions":
        """Return the test predictions of the fine-tuned model, or of the linear probe (``"probe"``).

        Raises:
            RunError: the file is missing or damaged, or holds no such model.
        """
        return self._test.parse(lambda data: parse_predictions(data.decode(), model))

    def write_validation(self, predictions: "Predictions") -> None:
        """Write the fine-tuned model's predictions for the validation images."""
        self._validation.write(predictions_text({"finetuned": predictions}))

    def validation(self) -> "Predictions | None":
        """Return the fine-tuned model's validation predictions, or None in a run of an older version."""
        return self._validation.parse_if_exists(lambda data: parse_predictions(data.decode(), "finetuned"))


def predictions_text(predictions: "Mapping[str, Predictions]") -> str:
    """Return a CSV with a row a case: opaque id, numbered group, label, subgroup if known, and probabilities.

    The title of the label's column says of which task they are.

    Columns of probabilities are called ``<model>:<class>`` and have full precision. Groups are numbered in sorted
    order, because a group's name may be a patient's; the order makes the same seed resample the same groups.
    """
    first = next(iter(predictions.values()))
    numbers = {group: f"{number:06d}" for number, group in enumerate(sorted(set(first.groups)), start=1)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    known = ["subgroup"] if first.subgroups else []
    writer.writerow(
        [
            "id",
            "group",
            first.task.column,
            *known,
            *(f"{m}:{c}" for m, p in predictions.items() for c in p.classes),
        ]
    )
    for row, (case, group, label) in enumerate(zip(first.ids, first.groups, first.labels, strict=True)):
        values = [repr(float(value)) for p in predictions.values() for value in p.probabilities[row]]
        known = [first.subgroups[row]] if first.subgroups else []
        writer.writerow(
            [case, numbers[group], as_text(first.task.text(label, first.classes)), *map(as_text, known), *values]
        )
    return out.getvalue()


def parse_predictions(text: str, model: str) -> "Predictions":
    """Return one model's predictions that ``predictions_text`` wrote; groups are called by their numbers."""
    import numpy as np

    from shpeft.evaluation.predict import Predictions
    from shpeft.tasks import read_column

    header, *rows = csv.reader(io.StringIO(text))
    task = read_column(header[2])
    known = header[3:4] == ["subgroup"]
    models = [column.split(":", 1)[0] for column in header[3 + known :]]
    entry(dict.fromkeys(models), model)
    columns = [column for column, name in enumerate(models, start=3 + known) if name == model]
    classes = tuple(header[column].split(":", 1)[1] for column in columns)
    return Predictions(
        ids=tuple(row[0] for row in rows),
        labels=tuple(task.parse(as_written(row[2]), classes) for row in rows),
        groups=tuple(row[1] for row in rows),
        classes=classes,
        probabilities=np.array([[float(row[column]) for column in columns] for row in rows], dtype=np.float64),
        subgroups=tuple(as_written(row[3]) for row in rows) if known else (),
        task=task,
    )

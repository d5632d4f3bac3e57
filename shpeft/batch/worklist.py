"""A worklist: the rows of a batch as cases for a reader, the most urgent or the most doubtful first."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from shpeft.batch import csv_rows
from shpeft.datasets import Split
from shpeft.diagnosis import diagnose
from shpeft.evaluation.answer import NO_ANSWER
from shpeft.pipeline import LoadedRun
from shpeft.runs.audit import Record
from shpeft.support.progress import Progress, silent
from shpeft.support.spreadsheet import as_text

Order = Literal["urgency", "doubt", "given", "largest", "smallest"]

UNREADABLE = "Cannot be read"
FINDING = "reader_finding"


@dataclass(frozen=True)
class WorklistRow:
    """A case of a worklist.

    Attributes:
        position: of the case among those given, from 0.
        id: opaque, from the content; empty if the file could not be read at all.
        headline: the answer, ``No answer``, or ``Cannot be read``.
        answered: whether the model answers.
        urgency: probability of the class that must not be missed; 0 without such a class, as in a regression.
        doubt: from 0 to 1: how far the most probable class, or of several findings the least certain one, is from being
            certain; 1 without an answer.
        error: why the file cannot be read; empty if it can.
        value: of a regression, the predicted number; None of classes, or without an answer.
        of_number: whether the model predicts a number.
        slices: how many images the case has; more than one in a series.
        key_slice: of a series, index of the slice with the highest risk, from 0; None of an image or without an answer.
    """

    position: int
    id: str
    headline: str
    answered: bool
    urgency: float
    doubt: float
    error: str = ""
    value: float | None = None
    of_number: bool = False
    slices: int = 1
    key_slice: int | None = None


def worklist_rows(text: str) -> list[WorklistRow]:
    """Return the rows of a batch's CSV as cases, in the given order.

    Examples:
        >>> names = "id,answer,probability:ill,probability:well,threshold_class,error"
        >>> rows = worklist_rows(f"{names}\\ncase-1,ill: positive,0.3,0.7,ill,\\ncase-2,No answer,0.5,0.5,ill,\\n")
        >>> [(row.headline, row.urgency, row.doubt) for row in rows]
        [('ill: positive', 0.3, 0.3), ('No answer', 0.5, 1.0)]
    """
    return [_row(position, cells) for position, cells in enumerate(csv.DictReader(io.StringIO(text)))]


def in_order(rows: Sequence[WorklistRow], order: Order) -> list[WorklistRow]:
    """Sort cases by urgency, by doubt or by their number; what gets no answer comes first, what cannot be read last."""
    if order == "given":
        return sorted(rows, key=lambda row: row.position)

    def key(row: WorklistRow) -> tuple[float, ...]:
        group = 2 if row.error else int(row.answered)
        if order in ("largest", "smallest"):
            value = row.value or 0.0
            return (group, -value if order == "largest" else value, row.position)
        first, second = (row.urgency, row.doubt) if order == "urgency" else (row.doubt, row.urgency)
        return (group, -first, -second, row.position)

    return sorted(rows, key=key)


def with_findings(text: str, findings: Mapping[str, str]) -> str:
    """Return a batch's CSV with a last column of the reader's findings, by case id."""
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows:
        return text
    out = io.StringIO()
    writer = csv.DictWriter(out, [*rows[0], FINDING], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, FINDING: as_text(findings.get(row[csv_rows.ID], ""))} for row in rows)
    return out.getvalue()


def diagnose_split(
    run: LoadedRun, split: Split, most: int, *, progress: Progress = silent, record: Record | None = None
) -> str:
    """Diagnose the first images of a split; return a batch's CSV, with the ids of the split.

    Args:
        run: the loaded run.
        split: the images.
        most: how many of them.
        progress: the progress callback; an exception in it ends the work.
        record: called with each case and its model.
    """
    classes, made_by = run.backbone.classes, csv_rows.made_by(run)
    lines, total = [csv_rows.line(csv_rows.header(classes, run.backbone.task))], min(most, len(split))
    for position, identity in enumerate(islice(split.ids, total)):
        progress("diagnosing the images", position, total)
        diagnosis = diagnose(
            run.backbone,
            split.image(position),
            reliability=run.reliability,
            ood_detector=run.ood_detector,
        )
        if record is not None:
            record(f"case-{identity}", made_by)
        row = csv_rows.judged(b"", diagnosis, made_by, csv_rows.urgent_finding(run))  # its id is the split's
        lines.append(csv_rows.line([f"case-{identity}", *row[1:]]))
    return b"".join(lines).decode()


def _certainties(cells: Mapping[str, str], probabilities: Mapping[str, float]) -> list[float]:
    """Return the probability of each class, or of several findings one: how sure the least certain one is."""
    if csv_rows.PREDICTED in cells or not any(name.startswith(f"{csv_rows.ANSWER}:") for name in cells):
        return list(probabilities.values())
    return [min(max(p, 1 - p) for p in probabilities.values())]


def _row(position: int, cells: Mapping[str, str]) -> WorklistRow:
    number = "quantity" in cells
    row = WorklistRow(
        position,
        cells[csv_rows.ID],
        UNREADABLE,
        False,
        0.0,
        1.0,
        cells[csv_rows.ERROR],
        of_number=number,
        slices=int(cells.get(csv_rows.SLICES) or 1),
        key_slice=int(cells[csv_rows.KEY_SLICE]) - 1 if cells.get(csv_rows.KEY_SLICE) else None,
    )
    if row.error:
        return row
    answered = cells[csv_rows.ANSWER] != NO_ANSWER
    if number:
        value = float(cells["value"]) if cells["value"] else None
        doubt = 1 - float(answered)
        return replace(row, headline=cells[csv_rows.ANSWER], answered=answered, doubt=doubt, value=value)
    prefix = "probability:"
    probabilities = {name.removeprefix(prefix): float(p) for name, p in cells.items() if name.startswith(prefix)}
    urgency = probabilities.get(cells["threshold_class"], 0.0)
    doubt = round(1 - max(_certainties(cells, probabilities)), 12) if answered else 1.0
    return replace(row, headline=cells[csv_rows.ANSWER], answered=answered, urgency=urgency, doubt=doubt)

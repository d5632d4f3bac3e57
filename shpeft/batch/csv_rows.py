"""The CSV of a batch: a row per case, with opaque ids and no patient data."""

import csv
import dataclasses
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shpeft import NOTICE
from shpeft.batch.series_rules import SeriesDiagnosis
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import Diagnosis, case_id
from shpeft.evaluation import NO_ANSWER, Answer, Estimate, FindingReliability
from shpeft.pipeline import LoadedRun
from shpeft.runs.reliability import detector_bytes
from shpeft.support.environment import environment
from shpeft.support.spreadsheet import as_text
from shpeft.tasks import SINGLE_LABEL, MultiLabel, Regression, Task
from shpeft.tasks.multi_label import NO_FINDING
from shpeft.tasks.multi_label import SEPARATOR as MULTI_SEPARATOR

SEPARATOR = " | "
"""Between the classes of a prediction set."""

NOT_AN_ANSWER = "not an answer: "
"""Before the classes of a row without an answer, so that no column alone can be taken for one."""

ID, ANSWER, PREDICTED, ABSTAIN, UNLIKE = "id", "answer", "predicted", "abstain", "unlike_training"
MARKED = "text_or_markers"
"""Whether text or markers are burnt into the image; empty where nobody looked."""

CAUTIONS = "cautions"
"""Sentences that a reader needs before the answer, such as of text in the image or of an unusual view."""

ERROR, MADE_BY = "error", "made_by"
FIRST, LAST = (ID, "width", "height", MARKED, CAUTIONS, ANSWER, "reasons"), (ERROR, MADE_BY, "notice")
"""Columns that the rows of every task begin and end with."""

FINDINGS_END = ("calibrated", "threshold_class", ABSTAIN, UNLIKE, "novelty_percentile")
"""Columns of findings between those of each finding and those of every row."""

SLICES, RULE, KEY_SLICE, ABOUT_SERIES = SERIES = ("slices", "series_rule", "key_slice", "about_series")
"""Columns before :data:`LAST` where the files of a series are one case; an image by itself has one slice."""

NUMBER = ("quantity", "value", "unit", "low", "high", "coverage")
"""Columns of a regression; the value and the ends of its interval are empty without an answer."""


def header(classes: Sequence[str], task: Task = SINGLE_LABEL, rule: SeriesRule | None = None) -> list[str]:
    """Return the names of the columns; findings that may occur together have an answer and a threshold each.

    Args:
        rule: how a series is answered; None where every image is a case.
    """
    names = _header(classes, task)
    return names if rule is None else [*names[: -len(LAST)], *SERIES, *LAST]


def _header(classes: Sequence[str], task: Task) -> list[str]:
    if isinstance(task, MultiLabel):
        each = [f"{kind}:{name}" for kind in ("answer", "probability", "threshold") for name in classes]
        return [*FIRST, *each, *FINDINGS_END, *LAST]
    if isinstance(task, Regression):
        return [*FIRST, *NUMBER, UNLIKE, "novelty_percentile", *LAST]
    return [
        *FIRST,
        "probability_of",
        "probability",
        "test_sensitivity",
        "test_specificity",
        PREDICTED,
        *(f"probability:{name}" for name in classes),
        "calibrated",
        "threshold_class",
        "threshold",
        "predicted_at_threshold",
        "prediction_set",
        "coverage",
        ABSTAIN,
        UNLIKE,
        "novelty_percentile",
        *LAST,
    ]


def line(cells: Sequence[object]) -> bytes:
    """Return a row as one line; line breaks in a cell become spaces, so that every line of the file is a whole row.

    Text that a spreadsheet would read as a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([as_text(" ".join(str(cell).split())) for cell in cells])
    return out.getvalue().encode()


def judged(data: bytes, diagnosis: Diagnosis, made_by: str, urgent: str = "") -> list[object]:
    """Return the row of a diagnosed image; numbers have full precision: the same image gives the same bytes.

    Args:
        urgent: of several findings, the one that must not be missed.
    """
    if diagnosis.findings:
        return _judged_findings(data, diagnosis, made_by, urgent)
    if diagnosis.estimate is not None:
        return _judged_number(data, diagnosis, diagnosis.estimate, made_by)
    reliability, answer = diagnosis.reliability, diagnosis.answer
    decision = None if reliability is None else reliability.decision
    shown = diagnosis.probabilities if reliability is None else reliability.probabilities
    mark = "" if answer.given else NOT_AN_ANSWER
    at_threshold = class_at_threshold(diagnosis)
    return [
        *_first(data, diagnosis),
        answer.probability_of,
        repr(answer.probability),
        "" if answer.rates is None else answer.rates.sensitivity.counts,
        "" if answer.rates is None else answer.rates.specificity.counts,
        mark + diagnosis.predicted,
        *map(repr, shown),
        "no" if reliability is None else "yes",
        "" if decision is None else decision.positive_class,
        "" if decision is None else repr(decision.threshold),
        "" if at_threshold is None else mark + at_threshold,
        "" if reliability is None else mark + SEPARATOR.join(reliability.prediction_set),
        "" if reliability is None else repr(reliability.coverage),
        "" if reliability is None else _yes(reliability.abstains),
        "" if diagnosis.ood is None else _yes(bool(diagnosis.ood.reasons)),
        "" if diagnosis.ood is None else repr(diagnosis.ood.percentile),
        "",
        made_by,
        NOTICE,
    ]


def with_slices(row: Sequence[object], answered: SeriesDiagnosis | None) -> list[object]:
    """Return the row of a case with the columns of :data:`SERIES`: of a series, or of an image by itself."""
    cells: tuple[object, ...] = (1, "", "", "")
    if answered is not None:
        cells = (len(answered.risks), answered.rule, answered.key + 1, " ".join(answered.sentences))
    return [*row[: -len(LAST)], *cells, *row[-len(LAST) :]]


def _judged_findings(data: bytes, diagnosis: Diagnosis, made_by: str, urgent: str) -> list[object]:
    """Return the row of an image with an answer to each finding."""
    answer, ood = diagnosis.answer, diagnosis.ood
    mark = "" if answer.given else NOT_AN_ANSWER
    cases = [part.reliability for part in diagnosis.findings]
    return [
        *_first(data, diagnosis),
        *(mark + _side(part) if part.given or mark else NO_ANSWER for part in answer.findings),
        *map(repr, diagnosis.shown),
        *("" if part.threshold is None else repr(part.threshold) for part in answer.findings),
        "yes" if diagnosis.calibrated else "no",
        urgent,
        _yes(any(case is not None and case.abstains for case in cases)),
        "" if ood is None else _yes(bool(ood.reasons)),
        "" if ood is None else repr(ood.percentile),
        "",
        made_by,
        NOTICE,
    ]


def _judged_number(data: bytes, diagnosis: Diagnosis, estimate: Estimate, made_by: str) -> list[object]:
    """Return the row of an image of which a number is predicted."""
    answer, ood = diagnosis.answer, diagnosis.ood
    numbers = (estimate.value, estimate.low, estimate.high)
    value, low, high = ("" if number is None or not answer.given else repr(number) for number in numbers)
    coverage = "" if estimate.coverage is None else repr(estimate.coverage)
    return [
        *_first(data, diagnosis),
        *(estimate.quantity, value, estimate.unit, low, high, coverage),
        "" if ood is None else _yes(bool(ood.reasons)),
        "" if ood is None else repr(ood.percentile),
        "",
        made_by,
        NOTICE,
    ]


def _first(data: bytes, diagnosis: Diagnosis) -> list[object]:
    """Return the cells of :data:`FIRST`."""
    marked = None if diagnosis.burnt_in is None else diagnosis.burnt_in.present
    answer = diagnosis.answer
    return [
        case_id(data),
        *diagnosis.image_size,
        _yes(marked),
        " ".join(diagnosis.cautions),
        answer.headline,
        " ".join(answer.reasons),
    ]


def _side(answer: Answer) -> str:
    return "positive" if answer.is_positive else "negative"


def urgent_finding(run: LoadedRun) -> str:
    """Return the finding of a run that must not be missed; empty if it has none, or single labels."""
    return run.reliability.must_not_miss if isinstance(run.reliability, FindingReliability) else ""


def unreadable(
    identity: str,
    reason: str,
    classes: Sequence[str],
    made_by: str,
    task: Task = SINGLE_LABEL,
    rule: SeriesRule | None = None,
) -> list[object]:
    """Return the row of a case that could not be diagnosed; its id is empty where its file could not be read at all."""
    names = header(classes, task, rule)
    row: list[object] = [""] * len(names)
    row[0] = identity
    row[-3:] = [reason, made_by, NOTICE]
    return row


def class_at_threshold(diagnosis: Diagnosis) -> str | None:
    """Return the class at the run's operating threshold: the positive one, or the most probable other one.

    Of several findings, all that reach their thresholds: ``edema|mass``, or ``No finding``.

    None if the run has no threshold. With a threshold below 1/2, a positive case's most probable class may be another.
    """
    decision = None if diagnosis.reliability is None else diagnosis.reliability.decision
    if diagnosis.findings:
        named = [part.probability_of for part in diagnosis.answer.findings if part.is_positive]
        return MULTI_SEPARATOR.join(named) or NO_FINDING
    if decision is None:
        return None
    if decision.is_positive:
        return decision.positive_class
    return next(name for name, _ in diagnosis.ranked() if name != decision.positive_class)


def made_by(run: LoadedRun, batch_size: int = 1, rule: SeriesRule | None = None) -> str:
    """Return a digest of what decides a row besides the image: delta, reliability, decoding, device and libraries.

    Several images that pass the model together, and the rule for series, are named after it: ``3f9c0a1b2d4e/32/mean``.
    """
    delta, ood_detector = run.delta, run.ood_detector
    tensors = [delta.values, *delta.support.indices.values(), delta.head.weight, delta.head.bias]
    parts = [tensor.cpu().numpy().tobytes() for tensor in tensors]
    parts += [] if ood_detector is None else [detector_bytes(ood_detector)]
    model: tuple[object, ...] = (run.header["base"], run.reliability, run.decoding, run.backbone.device.type)
    if isinstance(run.backbone.task, Regression):
        model += (run.backbone.task,)
    settings = _stable_repr((model, run.header["classes"], run.header["transform"], environment()["libraries"]))
    digest = hashlib.sha256(b"".join([*parts, settings.encode()])).hexdigest()[:12]
    return "/".join([digest, *([str(batch_size)] if batch_size > 1 else []), *([rule] if rule else [])])


FIRST_NAMES = {
    "Reliability": "Trust",
    "DecisionRules": "Choices",
    "AbstentionRates": "Answered",
    "rules": "choices",
}
"""Names under which classes and fields entered the first batches' fingerprints."""


def _stable_repr(value: object) -> str:
    """Return a dataclass's default repr under :data:`FIRST_NAMES`: renaming a class must not make a batch outdated."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        fields = (
            f"{FIRST_NAMES.get(field.name, field.name)}={_stable_repr(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if field.repr
        )
        return f"{FIRST_NAMES.get(name, name)}({', '.join(fields)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_stable_repr, value))}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_stable_repr(item)}' for key, item in value.items())}}}"
    return repr(value)


@dataclass(frozen=True)
class Summary:
    """Counts of cases over a batch.

    Attributes:
        answers: by answer, ``No answer`` included; by the most probable class in a CSV of an older version.
        abstained, unlike_training: cases by the reason why they got no answer; both can hold for one.
        of_numbers: whether the model predicts a number, and so never abstains.
        marked: cases with text or markers in the image; 0 in a CSV of an older version.
        of_series: whether the files of a series are one case.
    """

    done: int
    unreadable: int
    abstained: int
    unlike_training: int
    answers: dict[str, int]
    of_numbers: bool = False
    marked: int = 0
    of_series: bool = False


def summary(text: str) -> Summary:
    """Return the counts over a batch's CSV."""
    rows = list(csv.DictReader(io.StringIO(text)))
    numbers = "quantity" in rows[0] if rows else False
    answers = Counter(_counted(row, numbers) for row in rows if not row[ERROR])
    return Summary(
        done=len(rows),
        unreadable=sum(bool(row[ERROR]) for row in rows),
        abstained=sum(row.get(ABSTAIN) == "yes" for row in rows),
        unlike_training=sum(row[UNLIKE] == "yes" for row in rows),
        answers=dict(answers.most_common()),
        of_numbers=numbers,
        marked=sum(row.get(MARKED) == "yes" for row in rows),
        of_series=bool(rows) and SLICES in rows[0],
    )


def _counted(row: dict[str, str], number: bool) -> str:
    """Return what a row counts as: its answer, or of a number that there is one."""
    answer = row[ANSWER] if ANSWER in row else row[PREDICTED]
    return row["quantity"] if number and answer != NO_ANSWER else answer


def excerpt(text: str, most: int) -> list[dict[str, str]]:
    """Return the first ``most`` rows of a batch's CSV, without the columns that are the same in all rows."""
    rows = list(itertools.islice(csv.DictReader(io.StringIO(text)), most))
    return [{name: cell for name, cell in row.items() if name not in (MADE_BY, "notice")} for row in rows]


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"

"""The CSV of a batch: one row a file, with opaque ids and nothing that the file says of a patient."""

import csv
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shpeft import NOTICE
from shpeft.diagnosis import Diagnosis, case_id
from shpeft.pipeline import LoadedRun
from shpeft.runs.formats import environment, novelty_bytes

SEPARATOR = " | "
"""Between the classes of a prediction set."""

ID, PREDICTED, ABSTAIN, UNLIKE, ERROR, MADE_BY = "id", "predicted", "abstain", "unlike_training", "error", "made_by"


def header(classes: Sequence[str]) -> list[str]:
    """The names of the columns."""
    return [
        ID,
        "width",
        "height",
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
        ERROR,
        MADE_BY,
        "notice",
    ]


def line(cells: Sequence[object]) -> bytes:
    """One row as one line: a line break within a cell becomes a space, so that a file can be cut at its last one."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([" ".join(str(cell).split()) for cell in cells])
    return out.getvalue().encode()


def judged(data: bytes, found: Diagnosis, made_by: str) -> list[object]:
    """The row of an image; numbers in full precision, so that the same image gives the same bytes."""
    told = found.judgement
    call = None if told is None else told.call
    shown = found.probabilities if told is None else told.probabilities
    width, height = found.image_size
    return [
        case_id(data),
        width,
        height,
        found.predicted,
        *map(repr, shown),
        "no" if told is None else "yes",
        "" if call is None else call.positive,
        "" if call is None else repr(call.threshold),
        at_threshold(found) or "",
        "" if told is None else SEPARATOR.join(told.members),
        "" if told is None else repr(told.coverage),
        "" if told is None else _yes(told.abstains),
        "" if found.novelty is None else _yes(found.novelty.alarm),
        "" if found.novelty is None else repr(found.novelty.percentile),
        "",
        made_by,
        NOTICE,
    ]


def unreadable(data: bytes | None, reason: str, classes: Sequence[str], made_by: str) -> list[object]:
    """The row of a file that gave no diagnosis."""
    names = header(classes)
    row: list[object] = [""] * len(names)
    row[0] = "" if data is None else case_id(data)
    row[-3:] = [reason, made_by, NOTICE]
    return row


def at_threshold(found: Diagnosis) -> str | None:
    """The class at the run's operating threshold: the positive one, or the most probable of the others; None without.

    A threshold below 1/2 calls a case positive whose most probable class is another.
    """
    call = None if found.judgement is None else found.judgement.call
    if call is None:
        return None
    return call.positive if call.called else next(name for name, _ in found.ranked() if name != call.positive)


def made_by(run: LoadedRun) -> str:
    """What decides a row besides the image: the delta, what it is judged by, the device, the libraries' versions."""
    delta, novelty = run.delta, run.novelty
    tensors = [delta.values, *delta.support.indices.values(), delta.head.weight, delta.head.bias]
    parts = [tensor.cpu().numpy().tobytes() for tensor in tensors]
    parts += [] if novelty is None else [novelty_bytes(novelty)]
    told = (run.header["base"], run.trust, run.decoding, run.backbone.device.type)
    words = repr((told, run.header["classes"], run.header["transform"], environment()["libraries"]))
    return hashlib.sha256(b"".join([*parts, words.encode()])).hexdigest()[:12]


@dataclass(frozen=True)
class Summary:
    """What a table of results comes to, in counts of files."""

    done: int
    unreadable: int
    abstained: int
    unlike_training: int
    predicted: dict[str, int]


def summary(text: str) -> Summary:
    """The counts over a batch's CSV."""
    rows = list(csv.DictReader(io.StringIO(text)))
    predicted = Counter(row[PREDICTED] for row in rows if not row[ERROR])
    return Summary(
        done=len(rows),
        unreadable=sum(bool(row[ERROR]) for row in rows),
        abstained=sum(row[ABSTAIN] == "yes" for row in rows),
        unlike_training=sum(row[UNLIKE] == "yes" for row in rows),
        predicted=dict(predicted.most_common()),
    )


def excerpt(text: str, most: int) -> list[dict[str, str]]:
    """The first ``most`` rows of a batch's CSV, without the columns that say the same of every image."""
    rows = list(itertools.islice(csv.DictReader(io.StringIO(text)), most))
    return [{name: cell for name, cell in row.items() if name not in (MADE_BY, "notice")} for row in rows]


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"

"""Diagnose a series: its slices in order, one answer by a stated rule, and the slices that made it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from shpeft.batch.inputs import Entry, Source
from shpeft.diagnosis import Diagnosis, diagnose
from shpeft.errors import ConfigError, DiagnosisError, UnreadableImage
from shpeft.evaluation import OODScore, Reliability, assess_case
from shpeft.images import Decoding
from shpeft.images.burnt_in import BurntIn
from shpeft.images.series import SliceHeader, in_order, read_slices
from shpeft.pipeline import LoadedRun
from shpeft.support.formatting import probability
from shpeft.support.progress import Progress, silent
from shpeft.tasks import Regression

Rule = Literal["highest-risk", "mean"]

MOST_SLICES = 5_000
"""Most slices of a series; a CT of the whole body at 0.5 mm has about 4,000."""


@dataclass(frozen=True)
class Slice:
    """One frame of a file, and how to read the file."""

    entry: Entry
    header: SliceHeader


@dataclass(frozen=True)
class Series:
    """The slices of one series, in their order in the patient."""

    slices: tuple[Slice, ...]

    def __len__(self) -> int:
        return len(self.slices)


@dataclass(frozen=True)
class SeriesList:
    """The series of some files.

    Attributes:
        series: in the order of their first files.
        left_out: (name, reason) of each file that is no slice; a file that comes twice is left out once.
    """

    series: tuple[Series, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class SeriesDiagnosis:
    """The answer to a series.

    Attributes:
        diagnosis: that of the whole series, with the key slice's size.
        rule: how it was made of the slices'.
        positive: the class that ranks the slices.
        risks: of each slice, in order: the probability of ``positive``, calibrated if the model is.
        key: index of the slice with the highest risk, from 0.
    """

    diagnosis: Diagnosis
    rule: Rule
    positive: str
    risks: tuple[float, ...]
    key: int

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the answer was made, by which slices, and what is not known about it."""
        top = sorted(range(len(self.risks)), key=lambda i: -self.risks[i])[:3]
        listed = ", ".join(f"{i + 1} ({probability(self.risks[i])})" for i in top)
        made = (
            f"The answer to this series of {len(self.risks):,} slices is that of slice {self.key + 1}, which has the "
            f"highest probability of {self.positive}."
            if self.rule == "highest-risk"
            else f"The answer to this series is the mean of the probabilities of its {len(self.risks):,} slices."
        )
        return (
            made,
            f"Slices with the highest probability of {self.positive}: {listed}.",
            "Threshold and test figures are of single images; for whole series they were not measured.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; slices count from 1."""
        return {
            "rule": self.rule,
            "slices": len(self.risks),
            "key_slice": self.key + 1,
            "risk_of": self.positive,
            "risks": list(self.risks),
            "sentences": list(self.sentences),
            **self.diagnosis.to_dict(),
        }


def list_series(source: Source, progress: Progress = silent) -> SeriesList:
    """Sort files into series, and the slices of each into their order in the patient.

    Files are read one at a time. Every frame of an enhanced or multi-frame file is a slice.

    Args:
        source: the files.
        progress: the progress callback.

    Raises:
        DiagnosisError: no file belongs to a series, or a series has more than :data:`MOST_SLICES` slices.
    """
    groups: dict[tuple[str, str], list[Slice]] = {}
    left_out, seen = list[tuple[str, str]](), set[str]()
    for number, entry in enumerate(source.entries):
        progress("reading headers", number, len(source.entries))
        try:
            headers = read_slices(entry.read())
        except UnreadableImage as error:
            left_out.append((entry.name, str(error)))
            continue
        if (instance := headers[0].instance) and instance in seen:
            left_out.append((entry.name, "The same image comes twice."))
            continue
        seen.add(instance)
        groups.setdefault(headers[0].series, []).extend(Slice(entry, header) for header in headers)
    if not groups:
        raise DiagnosisError(
            "None of the files is a slice of a DICOM series. Without --series-rule, images are single."
        )
    if (longest := max(map(len, groups.values()))) > MOST_SLICES:
        raise DiagnosisError(f"A series has {longest:,} slices; at most {MOST_SLICES:,} are read.")
    series = tuple(
        Series(tuple(group[i] for i in in_order([each.header for each in group]))) for group in groups.values()
    )
    return SeriesList(series, tuple(left_out))


def diagnose_series(
    run: LoadedRun, series: Series, rule: Rule = "highest-risk", *, progress: Progress = silent
) -> SeriesDiagnosis:
    """Diagnose each slice as a single image, and answer the series by a rule.

    - ``highest-risk``: the diagnosis of the slice with the highest probability of the class that must not be missed;
      no answer if that slice gets none.
    - ``mean``: the mean of the slices' probabilities, assessed like those of one image. The out-of-distribution score
      is the median slice's, the upper one of two.

    Args:
        run: the model; its window holds for each slice.
        series: the slices.
        rule: the rule.
        progress: the progress callback.

    Raises:
        ConfigError: ``highest-risk`` without a class that must not be missed, or a run of several findings or numbers.
        UnreadableImage: a slice cannot be read; a series is not answered in part.
    """
    if isinstance(run.backbone.task, Regression):
        raise ConfigError(
            f"A rule makes one answer of a series by a class, and the run {run.name} predicts a number. "
            "Diagnose the slices as single images: leave out --series-rule."
        )
    if run.reliability is not None and not isinstance(run.reliability, Reliability):
        raise ConfigError(
            f"A rule makes one answer of a series, and the run {run.name} has an answer to each of several findings. "
            "Diagnose the slices as single images: leave out --series-rule."
        )
    point = None if run.reliability is None else run.reliability.operating
    if rule == "highest-risk" and point is None:
        raise ConfigError(
            f"The rule highest-risk ranks slices by the class that must not be missed, and the run {run.name} has none."
            " Choose it with shpeft calibrate RUN --positive CLASS, or give --series-rule mean."
        )
    read, single = _reader(series), list[Diagnosis]()
    for number, each in enumerate(series.slices):

        def report(*_: object, number: int = number) -> None:
            progress("diagnosing", number, len(series))

        try:
            single.append(
                diagnose(
                    run.backbone,
                    read(number),
                    decoding=Decoding(run.decoding.window, each.header.frame),
                    reliability=run.reliability,
                    ood_detector=run.ood_detector,
                    progress=report,
                )
            )
        except UnreadableImage as error:
            raise UnreadableImage(f"Slice {number + 1} of {len(series)} cannot be read: {error}") from None
    progress("diagnosing", len(series), len(series))
    diagnosis = _mean(run, single) if rule == "mean" else single[0]
    positive = point.rule.positive if point is not None else diagnosis.answer.probability_of
    risks = tuple(dict(each.ranked())[positive] for each in single)
    key = max(range(len(risks)), key=risks.__getitem__)
    diagnosis = single[key] if rule == "highest-risk" else replace(diagnosis, image_size=single[key].image_size)
    burnt_in = BurntIn.of_series([each.burnt_in for each in single if each.burnt_in is not None])
    diagnosis = replace(diagnosis, ood=_with_cautions(diagnosis.ood, single), burnt_in=burnt_in)
    return SeriesDiagnosis(diagnosis, rule, positive, risks, key)


def _mean(run: LoadedRun, single: Sequence[Diagnosis]) -> Diagnosis:
    """Return the diagnosis of the mean probabilities."""
    mean = np.array([each.probabilities for each in single], dtype=np.float64).mean(axis=0)
    probabilities = tuple(mean.tolist())
    predicted = single[0].classes[int(run.backbone.task.decide(mean[None])[0])]
    case = assess_case(run.reliability, probabilities, predicted) if isinstance(run.reliability, Reliability) else None
    target = predicted if case is None or case.decision is None else case.decision.positive_class
    return replace(
        single[0],
        probabilities=probabilities,
        predicted=predicted,
        target=target,
        reliability=case,
        ood=_median([each.ood for each in single if each.ood is not None]),
    )


def _median(scores: Sequence[OODScore]) -> OODScore | None:
    """Return the median score by distance, the upper one of two; None without scores."""
    ranked = sorted(scores, key=lambda score: score.distance)
    return ranked[len(ranked) // 2] if ranked else None


def _with_cautions(score: OODScore | None, single: Sequence[Diagnosis]) -> OODScore | None:
    """Return a score with the cautions of all slices, each once."""
    if score is None:
        return None
    cautions = dict.fromkeys(caution for each in single if each.ood is not None for caution in each.ood.cautions)
    return replace(score, cautions=tuple(cautions))


def _reader(series: Series) -> Callable[[int], bytes]:
    """Return a function from a slice to its file's bytes; frames of one file read it once."""
    last: list[tuple[Entry, bytes]] = []

    def read(number: int) -> bytes:
        entry = series.slices[number].entry
        if not last or last[0][0] is not entry:
            last[:] = [(entry, entry.read())]
        return last[0][1]

    return read

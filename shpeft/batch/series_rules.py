"""Answer a series by a stated rule, with the slices that made the answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, softmax

from shpeft.batch.inputs import Entry
from shpeft.batch.series import Series
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import Diagnosis, diagnose
from shpeft.errors import ConfigError, UnreadableImage
from shpeft.evaluation import AnyReliability, OODScore, Reliability, assess_case
from shpeft.images import Decoding
from shpeft.images.burnt_in import BurntIn
from shpeft.pipeline import LoadedRun
from shpeft.support.formatting import probability
from shpeft.support.progress import Progress, silent
from shpeft.tasks import Regression, Task

NOT_MEASURED = "Threshold and test figures are of single images; for whole series they were not measured."

LISTED = 3
"""Slices that a sentence names."""


@dataclass(frozen=True, eq=False)
class SeriesDiagnosis:
    """The answer to a series.

    Attributes:
        diagnosis: that of the whole series, with the key slice's size.
        rule: how it was made of the slices'.
        positive: the class that ranks the slices.
        risks: of each slice, in order: the probability of ``positive``, calibrated if the model is.
        key: index of the slice with the highest risk, from 0.
        weights: of the rule ``attention``, how much each slice counts; they sum to 1. Empty for the others.
    """

    diagnosis: Diagnosis
    rule: SeriesRule
    positive: str
    risks: tuple[float, ...]
    key: int
    weights: tuple[float, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the answer was made, by which slices, and what is not known of it; without an answer, what has none."""
        if not self.diagnosis.answer.given:
            return (f"There is no answer to this series of {len(self.risks):,} slices: {self._unanswered} gets none.",)
        top = sorted(range(len(self.risks)), key=lambda i: -self.risks[i])[:LISTED]
        listed = ", ".join(f"{i + 1} ({probability(self.risks[i])})" for i in top)
        return (
            self._made,
            f"Slices with the highest probability of {self.positive}: {listed}.",
            NOT_MEASURED,
        )

    @property
    def _made(self) -> str:
        if self.rule == "highest-risk":
            return (
                f"The answer to this series of {len(self.risks):,} slices is that of slice {self.key + 1}, which has "
                f"the highest probability of {self.positive}."
            )
        if self.rule == "mean":
            return f"The answer to this series is the mean of the probabilities of its {len(self.risks):,} slices."
        most = max(range(len(self.weights)), key=self.weights.__getitem__)
        return (
            f"The answer to this series of {len(self.risks):,} slices is by attention: each slice counts by its odds "
            f"of {self.positive}, slice {most + 1} the most ({probability(self.weights[most])})."
        )

    @property
    def _unanswered(self) -> str:
        if self.rule == "highest-risk":
            return f"slice {self.key + 1}, which would make it,"
        return "their mean" if self.rule == "mean" else "their mean by attention"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; slices count from 1."""
        return {
            "rule": self.rule,
            "slices": len(self.risks),
            "key_slice": self.key + 1,
            "risk_of": self.positive,
            "risks": list(self.risks),
            **({"weights": list(self.weights)} if self.weights else {}),
            "sentences": list(self.sentences),
            **self.diagnosis.to_dict(),
        }


def rules_for(task: Task, reliability: AnyReliability | None) -> tuple[SeriesRule, ...]:
    """Return the rules by which a model can answer a series, the default first; none of numbers and several findings.

    Examples:
        >>> from shpeft.tasks import SINGLE_LABEL
        >>> rules_for(SINGLE_LABEL, None)
        ('mean',)
    """
    if isinstance(task, Regression) or not isinstance(reliability, Reliability | None):
        return ()
    if reliability is None or reliability.operating is None:
        return ("mean",)
    return "highest-risk", "mean", "attention"


def diagnose_series(
    run: LoadedRun, series: Series, rule: SeriesRule = "highest-risk", *, progress: Progress = silent
) -> SeriesDiagnosis:
    """Diagnose each slice as a single image, and answer the series by a rule.

    - ``highest-risk``: the diagnosis of the slice with the highest probability of the class that must not be missed;
      no answer if that slice gets none.
    - ``mean``: the mean of the slices' probabilities, assessed like those of one image. The out-of-distribution score
      is the median slice's, the upper one of two.
    - ``attention``: as the mean, of the probabilities that :func:`attend` pools.

    Args:
        run: the model; its window holds for each slice.
        series: the slices.
        rule: the rule.
        progress: the progress callback.

    Raises:
        ConfigError: ``highest-risk`` or ``attention`` without a class that must not be missed, or a run of several
            findings or numbers.
        UnreadableImage: a slice cannot be read; a series is not answered in part.
    """
    check_rule(run, rule)
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
    return _by_rule(run, rule, single)


def attend(probabilities: NDArray[np.float64], positive: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool the slices of a series by attention, without parameters of its own.

    Attention pooling (Ilse, Tomczak and Welling 2018, arXiv 1802.04712) is the weighted mean z = Σ w_i h_i of the
    slices' features, with w = softmax(a) over the slices. There a small network is trained to score a_i; here a_i is
    the slice's risk logit log(r_i / (1 − r_i)), r_i the model's own probability of the class that must not be missed.
    So w_i is the slice's share of all odds. The head is linear, so of z it makes Σ w_i logits_i; and the logits of a
    softmax are the logarithms of its probabilities up to a constant of each slice, which cancels.

    Args:
        probabilities: (S, C) of each slice, by the softmax of its logits.
        positive: index of the class whose risk draws attention.

    Returns:
        The weights (S,), and the pooled probabilities (C,).

    Examples:
        >>> weights, pooled = attend(np.array([[0.9, 0.1], [0.2, 0.8]]), positive=1)
        >>> weights.round(3).tolist(), pooled.round(3).tolist()
        ([0.027, 0.973], [0.216, 0.784])
    """
    bounded = np.clip(probabilities, 1e-12, 1 - 1e-12)
    weights = softmax(logit(bounded[:, positive]))
    return weights, softmax(weights @ np.log(bounded))


def check_rule(run: LoadedRun, rule: SeriesRule) -> None:
    """Raise ConfigError, with what to do, if the run's model cannot answer a series by a rule."""
    if isinstance(run.backbone.task, Regression):
        raise ConfigError(
            f"A rule makes one answer of a series by a class, and the run {run.name} predicts a number. "
            "Diagnose the slices as single images: leave out --series-rule."
        )
    rules = rules_for(run.backbone.task, run.reliability)
    if not rules:
        raise ConfigError(
            f"A rule makes one answer of a series, and the run {run.name} has an answer to each of several findings. "
            "Diagnose the slices as single images: leave out --series-rule."
        )
    if rule not in rules:
        raise ConfigError(
            f"The rule {rule} ranks slices by the class that must not be missed, and the run {run.name} has none."
            " Choose it with shpeft calibrate RUN --positive CLASS, or give --series-rule mean."
        )


def _by_rule(run: LoadedRun, rule: SeriesRule, single: Sequence[Diagnosis]) -> SeriesDiagnosis:
    """Return the answer to a series of the diagnoses of its slices."""
    operating = run.reliability.operating if isinstance(run.reliability, Reliability) else None
    positive, weights = "" if operating is None else operating.rule.positive, ()
    slices = np.array([each.probabilities for each in single], dtype=np.float64)
    diagnosis = single[0]
    if rule == "mean":
        diagnosis = _pooled(run, single, slices.mean(axis=0))
    elif rule == "attention":
        shares, pooled = attend(slices, run.backbone.classes.index(positive))
        diagnosis, weights = _pooled(run, single, pooled), tuple(shares.tolist())
    positive = positive or diagnosis.answer.probability_of
    risks = tuple(dict(each.ranked())[positive] for each in single)
    key = max(range(len(risks)), key=risks.__getitem__)
    diagnosis = single[key] if rule == "highest-risk" else replace(diagnosis, image_size=single[key].image_size)
    burnt_in = BurntIn.of_series([each.burnt_in for each in single if each.burnt_in is not None])
    diagnosis = replace(diagnosis, ood=_with_cautions(diagnosis.ood, single), burnt_in=burnt_in)
    return SeriesDiagnosis(diagnosis, rule, positive, risks, key, weights)


def _pooled(run: LoadedRun, single: Sequence[Diagnosis], pooled: NDArray[np.float64]) -> Diagnosis:
    """Return the diagnosis of the slices' pooled probabilities (C,)."""
    probabilities = tuple(pooled.tolist())
    predicted = single[0].classes[int(run.backbone.task.decide(pooled[None])[0])]
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

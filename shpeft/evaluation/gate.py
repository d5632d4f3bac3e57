"""The gate before an answer: what out-of-distribution detection and abstention withhold together, as measured."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shpeft.evaluation.abstention import Abstention, wrong_decisions
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.proportions import Proportion
from shpeft.evaluation.thresholds import OperatingPoint

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OODDistances:
    """Distances of an out-of-distribution detector, measured when a run was calibrated.

    Attributes:
        limit: an alarm is raised above this distance.
        validation, test: (N,) of the images, in the order of their predictions.
        others: by kind, the distances of images of other kinds; every one of them should raise an alarm.
    """

    limit: float
    validation: Array
    test: Array
    others: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class GateRates:
    """What the gate does to a set of cases.

    Attributes:
        no_answer: cases that get no answer, for either reason.
        unlike: cases of the right kind that look unlike the training images: false alarms.
        uncertain: cases inside the abstain band.
        wrong_answers: wrong decisions among the answers: what the gate lets through.
        errors_withheld: of all wrong decisions, those that the gate withholds.
        missed: cases of the positive class that are answered as negative; None without an operating threshold.
        others: by kind, images of other kinds that get no answer because they look unlike the training images.
    """

    no_answer: Proportion
    unlike: Proportion
    uncertain: Proportion
    wrong_answers: Proportion
    errors_withheld: Proportion
    missed: Proportion | None
    others: dict[str, Proportion] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The rates in sentences.

        Examples:
            >>> few = Proportion(1, 40)
            >>> gate = GateRates(Proportion(5, 40), few, Proportion(4, 40), Proportion(3, 35), Proportion(2, 5), None)
            >>> gate.sentences[0]
            'No answer for 5 of 40 images: 1 looks unlike the training images, 4 are inside the abstain band.'
        """
        unlike, uncertain = self.unlike.count, self.uncertain.count
        wrong = f"{self.wrong_answers.counts} answers are wrong"
        if self.missed is not None:
            alarms, misses = self.wrong_answers.count - self.missed.count, self.missed.count
            wrong += f", {alarms:,} as false alarms and {misses:,} as misses"
        lines = [
            f"No answer for {self.no_answer.counts} images: {unlike} look{'s' * (unlike == 1)} unlike the training "
            f"images, {uncertain} {'is' if uncertain == 1 else 'are'} inside the abstain band.",
            f"{wrong}; {self.errors_withheld.counts} wrong decisions get no answer.",
        ]
        if self.others:
            kinds = "; ".join(f"{kind}: {share.counts}" for kind, share in self.others.items())
            lines.append(f"Images of other kinds that get no answer: {kinds}.")
        return tuple(lines)


def gate_rates(
    predictions: Predictions,
    abstention: Abstention | None,
    operating: OperatingPoint | None,
    distances: Array,
    limit: float,
    others: dict[str, Array] | None = None,
) -> GateRates:
    """Return what the gate does to a set of cases.

    Args:
        predictions: calibrated probabilities of N cases.
        abstention: the abstain band; None: the model never abstains.
        operating: the operating threshold; None: the most probable class is the decision.
        distances: (N,) of the out-of-distribution detector.
        limit: of the detector.
        others: by kind, distances of images of other kinds.
    """
    p, cases = predictions.probabilities, len(predictions.labels)
    unlike = distances > limit
    uncertain = np.zeros(cases, bool) if abstention is None else abstention.abstains(p, predictions.classes)
    withheld, wrong = unlike | uncertain, wrong_decisions(predictions, operating)
    missed = None
    if operating is not None:
        c = class_index(predictions.classes, operating.rule.positive)
        positive = np.asarray(predictions.labels) == c
        missed = _share(~withheld & (p[:, c] < operating.threshold), positive)
    return GateRates(
        no_answer=Proportion(int(withheld.sum()), cases),
        unlike=Proportion(int(unlike.sum()), cases),
        uncertain=Proportion(int(uncertain.sum()), cases),
        wrong_answers=_share(wrong, ~withheld),
        errors_withheld=_share(withheld, wrong),
        missed=missed,
        others={kind: Proportion(int((d > limit).sum()), len(d)) for kind, d in (others or {}).items()},
    )


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Proportion:
    return Proportion(int((part & whole).sum()), int(whole.sum()))

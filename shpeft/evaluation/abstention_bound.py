"""What few validation cases allow to promise about the share of new cases that get no answer."""

from dataclasses import dataclass

from shpeft.evaluation.sensitivity_bound import Promise


@dataclass(frozen=True)
class AbstentionBound(Promise):
    """What the number of validation cases allows to promise about the share of new cases inside the abstain band.

    The band ends at the (m + 1)-th lowest certainty of n validation cases. The share of new cases below it follows
    Beta(m + 1, n − m) at most (Wilks 1941), whatever the distribution of certainties. So it is at most 1 − target with
    the asked confidence if P(X ≤ m) ≤ 1 − confidence for X ~ Binomial(n, 1 − target), and m is the largest such number.
    The validation cases also chose the epoch, the temperature and the threshold, so the promise holds nearly; the test
    cases show what came of it.

    Attributes:
        target: least share of cases outside the band.
        confidence: of the promise, over draws of the validation cases.
        cases: validation cases.

    Examples:
        >>> AbstentionBound(0.9, 0.9, 80).sentence
        'With 90 % confidence, the abstain band takes at most 10 % of images like the validation images.'
        >>> AbstentionBound(0.9, 0.9, 21).holds
        False
    """

    target: float
    confidence: float
    cases: int

    @property
    def sentence(self) -> str:
        """The promise, or why none can be made."""
        share, confidence = f"{100 * (1 - self.target):.3g} %", f"{100 * self.confidence:g} %"
        if self.holds:
            return (
                f"With {confidence} confidence, the abstain band takes at most {share} of images like the validation "
                "images."
            )
        return (
            f"No promise for new images: that the abstain band takes at most {share}, with {confidence} confidence, "
            f"needs {self.cases_needed} validation images, and there are {self.cases}."
        )

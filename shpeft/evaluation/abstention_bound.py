"""What few validation cases allow to promise about new cases: how many get no answer, how many answers are wrong."""

from dataclasses import dataclass

from scipy.stats import binom

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


BANDS = 10
"""Bands that are tested for the highest share of wrong answers: those that answer 1/10, 2/10 and so on of the cases."""


@dataclass(frozen=True)
class RiskBound:
    """What validation cases show about the share of wrong answers among answers to new cases.

    A band's end is the certainty of one of the validation cases. Given this certainty, the cases above it are drawn
    like new cases that are answered, so that errors among them are binomial; the case at the end itself, the least
    certain one, counts among them, which is on the safe side where certainty says something. Errors need not rise with
    the answered share, so each of :data:`BANDS` bands is tested at (1 − confidence) / BANDS (learn then test with
    Bonferroni's correction, Angelopoulos et al. 2021) by the exact binomial test (Clopper and Pearson 1934). The band
    that answers most cases among those that pass is chosen. As with :class:`AbstentionBound`, the promise holds nearly.

    Attributes:
        target: most wrong answers, as a share of the answers.
        confidence: of the promise, over draws of the validation cases.
        answered: validation cases outside the band.
        wrong: those of them whose answer is wrong.

    Examples:
        >>> RiskBound(0.1, 0.9, 80, 1).sentence
        'With 90 % confidence, at most 10 % of the answers to images like the validation images are wrong.'
        >>> RiskBound(0.1, 0.9, 80, 2).holds
        False
    """

    target: float
    confidence: float
    answered: int
    wrong: int

    @property
    def holds(self) -> bool:
        """Whether the counts show it."""
        return bool(binom.cdf(self.wrong, self.answered, self.target) <= (1 - self.confidence) / BANDS)

    @property
    def sentence(self) -> str:
        """The promise, or what the counts are that do not allow it."""
        share, confidence = f"{100 * self.target:.3g} %", f"{100 * self.confidence:g} %"
        if self.holds:
            return (
                f"With {confidence} confidence, at most {share} of the answers to images like the validation images "
                "are wrong."
            )
        return (
            f"No promise for new images: the validation images do not show with {confidence} confidence that at most "
            f"{share} of the answers are wrong. Of {self.answered:,} answered ones, {self.wrong:,} are wrong."
        )

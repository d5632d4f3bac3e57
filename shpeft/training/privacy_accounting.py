"""ε of several private queries together: Rényi divergences add up, order by order, before they become (ε, δ)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

ORDERS = np.concatenate([np.arange(2, 64), np.arange(64, 513, 16)])
"""The orders α of Rényi divergence among which the smallest ε is taken."""


@dataclass(frozen=True)
class Mechanism:
    """Steps of the Poisson-subsampled Gaussian mechanism.

    Attributes:
        noise: z, the noise's standard deviation as a multiple of the largest norm of an image's term.
        rate: the probability with which an image takes part in a step; 1: all images do.
        steps: how often the mechanism is used.
    """

    noise: float
    rate: float = 1.0
    steps: int = 1

    def divergences(self) -> NDArray[np.float64]:
        """Return the Rényi divergence of all steps, of each of ``ORDERS``.

        Mironov, Talwar and Zhang (2019, arXiv 1908.10530, section 3.3), at integer orders; without subsampling it is
        α / (2 z²). Neighbors differ in one image that is there or not.
        """
        return np.array([self._divergence(int(order)) for order in ORDERS]) * self.steps

    def _divergence(self, order: int) -> float:
        """Return the Rényi divergence of one step."""
        i = np.arange(order + 1)
        binomial = gammaln(order + 1) - gammaln(i + 1) - gammaln(order - i + 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a rate of 1: every image is in every batch
            chosen = i * np.log(self.rate) + np.where(order == i, 0.0, (order - i) * np.log1p(-self.rate))
        return float(logsumexp(binomial + chosen + (i * i - i) / (2 * self.noise**2))) / (order - 1)


def composed_epsilon(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """Return ε of mechanisms on the same images, each chosen in knowledge of what those before it returned.

    The sum of the divergences becomes (ε, δ) by Canonne, Kamath and Steinke (2020, arXiv 2004.00010, proposition 12).

    Args:
        mechanisms: in any order; without any step ε is 0.
        delta: δ of the guarantee.

    Examples:
        >>> training, selection = Mechanism(noise=1.0, rate=0.01, steps=1000), Mechanism(noise=4.0)
        >>> [round(composed_epsilon(parts, 1e-5), 2) for parts in ([training], [selection], [training, selection])]
        [2.11, 1.01, 2.36]
    """
    parts = [mechanism.divergences() for mechanism in mechanisms if mechanism.steps]
    if not parts:
        return 0.0
    conversion = np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return float(max(0.0, (sum(parts) + conversion).min()))

"""Novelty: does an image look like the training images, to the backbone that judges it?

The Mahalanobis distance of the head's input to the training images' mean, under their shrunk covariance, beside the
distances of the validation images. Of patients' images nothing is kept but that mean, the directions in which they vary
most, and a few quantiles.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

Array = NDArray[np.float32]

DIRECTIONS = 64
"""Directions of the covariance that are kept; in all others together the variance is taken as even."""

ALARM = 0.05
"""Share of images like the validation images for which an alarm is raised. At 0.01 a third of other modalities pass."""

QUANTILES = 201


@dataclass(frozen=True)
class Novelty:
    """How unusual an image is.

    Attributes:
        distance: its Mahalanobis distance; 1 is usual (it is divided by the root of the dimension).
        percentile: the share of the validation images that are less unusual.
        alarm: whether it is more unusual than all but 5 % of them, or, of fewer than twenty, than any.
    """

    distance: float
    percentile: float
    alarm: bool


@dataclass(frozen=True, eq=False)
class NoveltyDetector:
    """What is known of how the training images look to the backbone.

    Attributes:
        mean: (D,) of the features, each scaled to length 1.
        directions: (R, D) orthonormal, those of the largest variance.
        variances: (R,) along them.
        rest: the variance along every other direction.
        reference: (201,) quantiles of the validation images' distances, from the smallest to the largest.
        limit: an alarm is raised above this distance.
        cases: how many validation images the limit comes from.
    """

    mean: Array
    directions: Array
    variances: Array
    rest: float
    reference: Array
    limit: float
    cases: int

    def distances(self, features: Array) -> NDArray[np.float64]:
        """(N,) for features (N, D): √((x − μ)ᵀ Σ⁻¹ (x − μ) / D) of features of length 1."""
        centred = _unit(features) - self.mean
        along = centred @ self.directions.T
        beside = np.maximum((centred**2).sum(1) - (along**2).sum(1), 0)
        squares = (along**2 / self.variances).sum(1) + beside / self.rest
        found: NDArray[np.float64] = np.sqrt(squares.astype(np.float64) / len(self.mean))
        return found

    def judge(self, features: Array) -> Novelty:
        """One image's features (D,)."""
        distance = float(self.distances(features[None])[0])
        below = np.interp(distance, self.reference, np.linspace(0, 1, len(self.reference)), left=0, right=1)
        return Novelty(distance, float(below), distance > self.limit)


def fit_novelty(train: Array, validation: Array) -> NoveltyDetector:
    """Fit the distance on training features (N, D), and say from validation features what is usual.

    Σ is the covariance shrunk to an even one (Ledoit and Wolf 2004). Its eigenvectors are the sample covariance's, so
    that cutting it to its largest directions keeps it a covariance.
    """
    x = _unit(train)
    fitted = LedoitWolf().fit(x.astype(np.float64))
    values, vectors = np.linalg.eigh(fitted.covariance_)
    kept = min(DIRECTIONS, len(values) - 1)
    rest = float(values[:-kept].mean())
    detector = NoveltyDetector(
        mean=fitted.location_.astype(np.float32),
        directions=np.ascontiguousarray(vectors[:, -kept:].T.astype(np.float32)),
        variances=values[-kept:].astype(np.float32),
        rest=rest,
        reference=np.zeros(0, np.float32),
        limit=0.0,
        cases=len(validation),
    )
    return _referred(detector, detector.distances(validation))


def alarm_limit(distances: NDArray[np.float64]) -> float:
    """Of n validation images' distances the ⌈(n + 1)·0.95⌉-th smallest, or the largest.

    Of images like them 5 % lie beyond it, or 1/(n + 1) where n is below 19, on average over validation sets.
    """
    n = len(distances)
    at = min(n, int(np.ceil((n + 1) * (1 - ALARM) - 1e-9)))
    return float(np.sort(distances)[at - 1])


def _referred(detector: NoveltyDetector, distances: NDArray[np.float64]) -> NoveltyDetector:
    """With the validation images' distances."""
    reference = np.quantile(distances, np.linspace(0, 1, QUANTILES)).astype(np.float32)
    return replace(detector, reference=reference, limit=alarm_limit(distances))


def _unit(features: Array) -> Array:
    """Each row at length 1: how strong features are varies with contrast, and is no sign of novelty by itself."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Array = (features / np.maximum(length, 1e-12)).astype(np.float32)
    return scaled

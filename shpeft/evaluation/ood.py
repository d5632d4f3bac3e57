"""Out-of-distribution detection: is an image of the kind that a model was trained on?

The score is the Mahalanobis distance of an image's features to the mean of the training images, under their shrunk
covariance (Lee et al. 2018), from blocks at three depths of the backbone. The distances of the validation images are
the reference. Beside it, what the file says about how it was made is compared with the training images. The detector
stores a mean, the directions of the largest variance, quantiles, codes and their counts, nothing of a single image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.covariance import ledoit_wolf_shrinkage

from shpeft.evaluation.training_facts import TrainingFacts, shared
from shpeft.images import CODES_OF_DATASETS, NO_FACTS, Acquisition, Facts

Array = NDArray[np.float32]

DIRECTIONS = 64
"""Stored eigenvectors of the covariance; the variance along all other directions is taken as constant."""

ALARM = 0.03
"""Target false alarm rate on images like the validation images. At 0.02, 3 of 300 photographs pass as dermoscopy."""

QUANTILES = 201


@dataclass(frozen=True)
class OODScore:
    """How unusual an image is.

    Attributes:
        distance: Mahalanobis distance over the root of the dimension; 1 is usual.
        percentile: share of the validation images that are less unusual.
        alarm: whether the distance is beyond the detector's limit.
        mismatches: sentences on what the file says against the training images, such as another modality.
        cautions: sentences on what it says that makes the answer less certain, but does not withhold it.
    """

    distance: float
    percentile: float
    alarm: bool
    mismatches: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences that say why the image is not of the training images' kind; empty if it is."""
        if not self.alarm:
            return self.mismatches
        others = "every validation image" if self.percentile >= 1 else f"{self.percentile:.0%} of the validation images"
        unlike = f"The image looks unlike the training images: it is more unusual than {others}."
        return (*self.mismatches, unlike)


@dataclass(frozen=True, eq=False, repr=False)
class OODDetector:
    """Mahalanobis distance, fitted on the features of the training images.

    Attributes:
        mean: (D,) of the features, each scaled to length 1.
        directions: (R, D) orthonormal eigenvectors of the largest variances.
        variances: (R,) along them.
        rest: variance along every other direction.
        reference: (201,) ascending quantiles of the validation images' distances.
        limit: an alarm is raised above this distance.
        cases: number of validation images behind the limit.
        blocks: names of the blocks whose features it reads; empty for the input of the head.
        modalities, body_parts: DICOM codes of the training images; empty if unknown.
        training: sides, views, planes and pixel spacing of the training images; None if unknown.
    """

    mean: Array
    directions: Array
    variances: Array
    rest: float
    reference: Array
    limit: float
    cases: int
    blocks: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    training: TrainingFacts | None = None

    def __repr__(self) -> str:
        return (
            f"OODDetector({len(self.mean)} features, {len(self.directions)} directions, alarm above "
            f"{self.limit:.3g} from {self.cases} validation images)"
        )

    def distances(self, features: Array) -> NDArray[np.float64]:
        """Return √((x − μ)ᵀ Σ⁻¹ (x − μ) / D) of ``features`` (N, D) scaled to length 1, (N,)."""
        centered = _unit(features) - self.mean
        along = centered @ self.directions.T.astype(np.float64)
        beside = np.maximum((centered**2).sum(1) - (along**2).sum(1), 0)
        squares = (along**2 / self.variances).sum(1) + beside / self.rest
        distances: NDArray[np.float64] = np.sqrt(squares / len(self.mean))
        return distances

    def alarms(self, distances: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return (N,) bool, which distances are beyond the limit, apart from the last digits of a float64."""
        beyond: NDArray[np.bool_] = distances > self.limit * (1 + 1e-9)
        return beyond

    def score(self, features: Array, facts: Facts = NO_FACTS) -> OODScore:
        """Score one image by its features (D,) and what its file says about how it was made."""
        distances = self.distances(features[None])
        below = np.interp(distances[0], self.reference, np.linspace(0, 1, len(self.reference)), left=0, right=1)
        return OODScore(
            float(distances[0]),
            float(below),
            bool(self.alarms(distances)[0]),
            self.mismatches(facts.acquisition),
            () if self.training is None else self.training.cautions(facts),
        )

    def mismatches(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Return a sentence for each thing that a file says and that no training image is. Unknown matches anything."""
        sentences = []
        known = [Acquisition(code) for code in self.modalities]
        names = {other.modality_name or other.modality for other in known}
        if known and acquisition.modality and (acquisition.modality_name or acquisition.modality) not in names:
            own = f"as {acquisition.modality_name}" if acquisition.modality_name else "with another modality"
            sentences.append(f"The file is marked {own}; the training images are {' or '.join(sorted(names))}.")
        if self.body_parts and acquisition.body_part and acquisition.body_part not in self.body_parts:
            parts = " or ".join(part.lower() for part in self.body_parts)
            sentences.append(f"The file is marked with another body part than the training images ({parts}).")
        return tuple(sentences)


def fit_ood_detector(
    train: Array,
    validation: Array,
    *,
    blocks: Sequence[str] = (),
    facts: Iterable[Facts] = (),
    modality: str | None = None,
) -> OODDetector:
    """Fit the distance on training features (N, D) and the alarm limit on validation features (M, D).

    Σ is the Ledoit-Wolf covariance (2004), shrunk to a multiple of the identity. Shrinking keeps the eigenvectors
    of the sample covariance, so cutting Σ to its largest directions leaves a covariance.

    Args:
        blocks: the blocks of the backbone that the features come from.
        facts: what the training images' files say.
        modality: of the dataset, such as ``ultrasound``, used where the files do not say it.
    """
    x = _unit(train)
    centered = x - x.mean(0)
    shrinkage = float(ledoit_wolf_shrinkage(x))
    _, singular, vectors = np.linalg.svd(centered, full_matrices=False)
    variances, width = singular**2 / len(x), x.shape[1]
    sphere = float(variances.sum()) / width
    count = min(DIRECTIONS, len(variances) - 1)
    remaining = float(variances[count:].sum()) / (width - count)
    files = list(facts)
    detector = OODDetector(
        mean=x.mean(0).astype(np.float32),
        directions=np.ascontiguousarray(vectors[:count].astype(np.float32)),
        variances=((1 - shrinkage) * variances[:count] + shrinkage * sphere).astype(np.float32),
        rest=(1 - shrinkage) * remaining + shrinkage * sphere,
        reference=np.zeros(0, np.float32),
        limit=0.0,
        cases=len(validation),
        blocks=tuple(blocks),
        modalities=tuple(shared(file.acquisition.modality for file in files))
        or CODES_OF_DATASETS.get((modality or "").lower(), ()),
        body_parts=tuple(shared(file.acquisition.body_part for file in files)),
        training=TrainingFacts.of(files),
    )
    distances = detector.distances(validation)
    reference = np.quantile(distances, np.linspace(0, 1, QUANTILES)).astype(np.float32)
    return replace(detector, reference=reference, limit=alarm_limit(distances))


def alarm_limit(distances: NDArray[np.float64]) -> float:
    """Return the ⌈(n + 1)·0.97⌉-th smallest of n validation distances.

    Averaged over validation sets, 3 % of similar images lie beyond it. Fewer than 33 distances have no such rank. The
    limit is then the prediction bound of their logarithms, taken as normal, or the largest distance if that is higher.
    """
    n = len(distances)
    at = int(np.ceil((n + 1) * (1 - ALARM) - 1e-9))
    if at <= n:
        return float(np.sort(distances)[at - 1])
    logs = np.log(np.maximum(distances, 1e-12))
    width = student.ppf(1 - ALARM, n - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / n) if n > 1 else 0.0
    return max(float(distances.max()), float(np.exp(logs.mean() + width)))


def _unit(features: Array) -> NDArray[np.float64]:
    """Scale each row to length 1: the length follows the contrast, which is no sign of an unusual image."""
    x = features.astype(np.float64)
    scaled: NDArray[np.float64] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return scaled

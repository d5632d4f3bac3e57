"""Localization: how well saliency points at the lesion, against the true mask and against chance.

The map has the size of the model's input, the mask the image's own. Each value of the map stands for a rectangle of the
image and counts by the share of the rectangle that the mask covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency.methods import check_method, default_method
from shpeft.explanation.saliency.overlay import Map
from shpeft.explanation.saliency.saliency_map import explain
from shpeft.explanation.target import target_index
from shpeft.support.progress import Progress, silent
from shpeft.tasks import MultiLabel

Mask = NDArray[np.bool_]


def area_share(mask: Mask) -> float:
    """Return the share of the image that the mask covers: the mass and pointing of an uninformative map."""
    return float(np.mean(mask))


def mass_in_mask(saliency_map: Map, mask: Mask) -> float:
    """Return the share of the map's sum that lies in the mask, Σ_mask s / Σ s.

    An all-zero map counts as a constant one.

    Args:
        saliency_map: (H, W), at least 0.
        mask: bool (height, width) of the image that the map explains.

    Raises:
        DiagnosisError: a map with negative values or values that are not finite, or an empty mask.
    """
    weights, cover = _checked(saliency_map, mask)
    return float((weights * cover).sum() / weights.sum())


def pointing_hit(saliency_map: Map, mask: Mask) -> float:
    """Play the pointing game (Zhang et al. 2016, without tolerance): 1 if the maximum lies in the mask, else 0.

    A maximum that the mask covers partly, or several equal maxima, give a fraction: the probability that a maximum
    drawn at random hits.

    Raises:
        DiagnosisError: a map with negative values or values that are not finite, or an empty mask.
    """
    weights, cover = _checked(saliency_map, mask)
    return float(cover[weights == weights.max()].mean())


def _checked(saliency_map: Map, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check map and mask; return the map, constant if it is all zero, and the mask's cover of each value."""
    weights = np.asarray(saliency_map, dtype=np.float64)
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise DiagnosisError("Localization needs a map of finite values of at least 0; this map has others.")
    if not np.any(mask):
        raise DiagnosisError("Localization needs a lesion; the mask of this image is empty. Leave out healthy images.")
    return weights if weights.any() else np.ones_like(weights), _cover(mask, weights.shape[1], weights.shape[0])


def _cover(mask: Mask, width: int, height: int) -> NDArray[np.float64]:
    """Return the mask's cover of each of height x width rectangles."""
    full = np.asarray(mask, dtype=np.float32)
    return np.asarray(Image.fromarray(full).resize((width, height), Image.Resampling.BOX), dtype=np.float64)


@dataclass(frozen=True)
class Localization:
    """How well a saliency method points at lesions: means over images.

    Attributes:
        cases: number of images with a lesion.
        mass: mean of :func:`mass_in_mask`.
        pointing: mean of :func:`pointing_hit`.
        chance: mean of :func:`area_share`, which an uninformative map reaches in both.

    Examples:
        >>> import shpeft
        >>> shpeft.Localization("smoothgrad", cases=40, mass=0.31, pointing=0.55, chance=0.04).pointing
        0.55
    """

    method: str
    cases: int
    mass: float
    pointing: float
    chance: float


def localize(
    backbone: Backbone,
    split: Split,
    method: str | None = None,
    *,
    target: str | int | None = None,
    rows: Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Localization:
    """Explain the images that have a lesion mask, and measure how well the maps point at the lesion.

    Args:
        backbone: the model to explain.
        split: images with masks, such as phantoms.
        method: a key of :data:`shpeft.explanation.saliency.METHODS`. None: the backbone's default.
        target: the class to explain, by name or by index; None: the true class of each image.
        rows: positions of the cases; None: all. Images without a lesion are skipped.
        seed: see :func:`explain`.

    Raises:
        DiagnosisError: an unknown method or target, or no image with a lesion mask.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> result = shpeft.localize(model, data.test, "saliency")
        >>> result.cases > 0 and 0 <= result.mass <= 1
        True
    """
    method = default_method(backbone) if method is None else method
    check_method(method)
    c = None if target is None else target_index(target, backbone.classes)
    if c is None and isinstance(split.task, MultiLabel):
        raise DiagnosisError("An image has several findings: name the one whose map is measured.")
    scores = []
    cases = range(len(split)) if rows is None else rows
    for done, row in enumerate(cases):
        progress("localization", done, len(cases))
        mask = split.mask(row)
        if mask is not None and mask.any():
            inputs = backbone.transform(split.image(row))
            saliency = explain(backbone, inputs, split.labels[row] if c is None else c, method, seed=seed).map
            scores.append((mass_in_mask(saliency, mask), pointing_hit(saliency, mask), area_share(mask)))
    progress("localization", len(cases), len(cases))
    if not scores:
        raise DiagnosisError("Localization needs images with lesion masks; none of these has one. Phantoms have them.")
    mass, pointing, chance = np.mean(scores, axis=0).tolist()
    return Localization(method, len(scores), mass, pointing, chance)

"""Whether saliency points at the lesion: a map against the true mask, beside what a blind map would reach.

A map of S x S values is compared with a mask of the image's own size, since both cover the whole image: each value of
the map stands for a rectangle of the image, and counts as far as the mask covers it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.errors import DiagnosisError
from shpeft.progress import Progress, silent
from shpeft.saliency.explaining import explain
from shpeft.saliency.methods import DEFAULT, check_method
from shpeft.saliency.overlay import Map

Mask = NDArray[np.bool_]


def area_share(mask: Mask) -> float:
    """The share of the image that the mask covers: what mass and pointing come to when a map knows nothing."""
    return float(np.mean(mask))


def mass_in_mask(saliency_map: Map, mask: Mask) -> float:
    """The share of the map's sum that lies in the mask: Σ_mask s / Σ s.

    An empty map, which says nothing, counts as an even one.

    Args:
        saliency_map: (S, S), at least 0.
        mask: bool (height, width) of the image that the map explains.

    Raises:
        DiagnosisError: a map with negative values or values that are not numbers, or an empty mask.
    """
    weights, cover = _checked(saliency_map, mask)
    return float((weights * cover).sum() / weights.sum())


def pointing_hit(saliency_map: Map, mask: Mask) -> float:
    """The pointing game of one image (Zhang et al. 2016, without tolerance): 1 if the maximum lies in the mask, else 0.

    A maximum whose rectangle the mask covers in part, and several equal maxima of which a part hits, give a fraction:
    the chance of a hit when one is drawn.

    Raises:
        DiagnosisError: a map with negative values or values that are not numbers, or an empty mask.
    """
    weights, cover = _checked(saliency_map, mask)
    return float(cover[weights == weights.max()].mean())


def _checked(saliency_map: Map, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The map, even where it is empty, and how far the mask covers each of its values."""
    weights = np.asarray(saliency_map, dtype=np.float64)
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise DiagnosisError("Localisation needs a map of finite values from 0 up; this one has others.")
    if not np.any(mask):
        raise DiagnosisError("Localisation needs a lesion; the mask of this image is empty. Leave healthy images out.")
    return weights if weights.any() else np.ones_like(weights), _cover(mask, weights.shape[1], weights.shape[0])


def _cover(mask: Mask, width: int, height: int) -> NDArray[np.float64]:
    """The share of each of height x width rectangles that the mask covers."""
    full = np.asarray(mask, dtype=np.float32)
    return np.asarray(Image.fromarray(full).resize((width, height), Image.Resampling.BOX), dtype=np.float64)


@dataclass(frozen=True)
class Localisation:
    """How well a saliency method finds the lesions of some images: means over them.

    Attributes:
        cases: how many images had a lesion.
        mass: of :func:`mass_in_mask`.
        pointing: of :func:`pointing_hit`.
        chance: of :func:`area_share`, what a blind map reaches in both.
    """

    method: str
    cases: int
    mass: float
    pointing: float
    chance: float


def localise(
    backbone: Backbone,
    split: Split,
    method: str = DEFAULT,
    *,
    rows: Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Localisation:
    """Explain the true class of every image that has a lesion mask, and measure whether the map points at it.

    Args:
        split: images with masks, such as phantoms.
        method: a key of :data:`shpeft.saliency.METHODS`.
        rows: which cases; None: all. Those without a lesion are passed over.

    Raises:
        DiagnosisError: an unknown method, or no image with a lesion mask.
    """
    check_method(method)
    found = []
    wanted = range(len(split)) if rows is None else rows
    for done, row in enumerate(wanted):
        progress("localisation", done, len(wanted))
        mask = split.mask(row)
        if mask is not None and mask.any():
            image = backbone.transform(split.image(row))
            saliency = explain(backbone, image, split.labels[row], method, seed=seed).map
            found.append((mass_in_mask(saliency, mask), pointing_hit(saliency, mask), area_share(mask)))
    progress("localisation", len(wanted), len(wanted))
    if not found:
        raise DiagnosisError("Localisation needs images with lesion masks; none of these has one. Phantoms have them.")
    mass, pointing, chance = np.mean(found, axis=0).tolist()
    return Localisation(method, len(found), mass, pointing, chance)

"""A saliency map laid over the image that it explains."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shpeft.errors import DiagnosisError

Map = NDArray[np.float32]

HUE = (0, 158, 255)
"""Azure, RGB: told apart with every colour vision, on black, on white, and from the hues of skin, retina and stains."""


def ceiling(saliency_map: Map) -> float:
    """The value that is drawn at full strength: the 99th percentile, or the maximum where that is 0."""
    return float(np.percentile(saliency_map, 99)) or float(saliency_map.max())


def normalised(saliency_map: Map) -> Map:
    """The map over its :func:`ceiling`, clipped to [0, 1]; zero stays zero."""
    top = ceiling(saliency_map)
    return np.clip(saliency_map / top, 0, 1).astype(np.float32) if top > 0 else np.zeros_like(saliency_map)


def levels(saliency_map: Map) -> NDArray[np.uint8]:
    """The map, :func:`normalised`, in 256 levels: for a viewer that blends it itself."""
    return np.round(255 * normalised(saliency_map)).astype(np.uint8)


def overlay(image: Image.Image, saliency_map: Map, opacity: float = 0.5) -> Image.Image:
    """Lay a map over the image it explains, at the image's own size.

    Args:
        image: as it was before it was resized for the model.
        saliency_map: (S, S), at least 0; :func:`normalised` here.
        opacity: of :data:`HUE` where the map is 1, from 0 (the image, bit for bit) to 1. Where the map is 0 the
            image shows unchanged.
    """
    if not 0 <= opacity <= 1:
        raise DiagnosisError(f"An overlay's opacity lies between 0 and 1; {opacity:g} was asked for.")
    if opacity == 0:
        return image.copy()
    stretched = Image.fromarray(normalised(saliency_map)).resize(image.size, Image.Resampling.BILINEAR)
    alpha = opacity * np.asarray(stretched, dtype=np.float32)[..., None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    blended = pixels * (1 - alpha) + np.array(HUE, dtype=np.float32) * alpha
    return Image.fromarray(np.round(blended).astype(np.uint8))

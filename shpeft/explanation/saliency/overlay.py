"""Overlay a saliency map on the image that it explains."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from shpeft.errors import DiagnosisError

Map = NDArray[np.float32]

HUE = (0, 158, 255)
"""Azure, RGB: distinct with any color vision, on black and white, and from the hues of skin, retina and stains."""

SMOOTHING = 1 / 40
"""Standard deviation of the Gaussian over the map's shorter side: less than half a patch of a transformer at its
usual size."""

THRESHOLD = 0.3
"""Share of full scale up to which nothing is drawn, so that weak and diffuse values do not veil the image."""


def full_scale(saliency_map: Map) -> float:
    """Return the value drawn at full opacity: the 99th percentile, or the maximum if that is 0."""
    return float(np.percentile(saliency_map, 99)) or float(saliency_map.max())


def normalize(saliency_map: Map) -> Map:
    """Return the map over its :func:`full_scale`, clipped to [0, 1]; zero stays zero."""
    top = full_scale(saliency_map)
    return np.clip(saliency_map / top, 0, 1).astype(np.float32) if top > 0 else np.zeros_like(saliency_map)


def opacity_map(saliency_map: Map, size: tuple[int, int] | None = None) -> Map:
    """Return how opaque each pixel is drawn: smooth, and zero wherever the map is low.

    The map is smoothed by a Gaussian (:data:`SMOOTHING`), normalized and enlarged with bicubic interpolation; values up
    to :data:`THRESHOLD` become 0 and the rest is stretched to (0, 1].

    Args:
        saliency_map: (H, W), at least 0.
        size: (width, height) of the result; None: that of the map.

    Returns:
        (height, width), from 0 to 1.
    """
    smooth = normalize(gaussian_filter(saliency_map, SMOOTHING * min(saliency_map.shape)))
    if size is not None:
        smooth = np.asarray(Image.fromarray(smooth).resize(size, Image.Resampling.BICUBIC))
    opacity: Map = np.clip((smooth - THRESHOLD) / (1 - THRESHOLD), 0, 1).astype(np.float32)
    return opacity


def to_uint8(saliency_map: Map) -> NDArray[np.uint8]:
    """Return the map's :func:`opacity_map` in 256 levels, for a viewer that does the blending."""
    return np.round(255 * opacity_map(saliency_map)).astype(np.uint8)


def overlay(image: Image.Image, saliency_map: Map, opacity: float = 0.6) -> Image.Image:
    """Overlay a map on the image it explains, at the image's own size.

    Args:
        image: before it is resized for the model.
        saliency_map: (H, W), at least 0.
        opacity: of :data:`HUE` where the map is highest, from 0 (the image, bit for bit) to 1. Elsewhere it is in
            proportion to :func:`opacity_map`; where that is 0, the image is unchanged.

    Raises:
        DiagnosisError: an opacity out of range.
    """
    if not 0 <= opacity <= 1:
        raise DiagnosisError(f"An overlay's opacity must lie between 0 and 1; {opacity:g} is given.")
    if opacity == 0:
        return image.copy()
    alpha = opacity * opacity_map(saliency_map, image.size)[..., None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    blended = pixels * (1 - alpha) + np.array(HUE, dtype=np.float32) * alpha
    return Image.fromarray(np.round(blended).astype(np.uint8))

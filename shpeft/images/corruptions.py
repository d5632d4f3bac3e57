"""Common corruptions of images in five severities, as of ImageNet-C (Hendrycks & Dietterich, arXiv 1903.12261)."""

import hashlib
import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Corruption = Literal["gaussian_noise", "gaussian_blur", "contrast", "brightness", "jpeg_compression"]

SIDE = 224
"""Side in pixels of the images that the severities are defined for."""

Array = NDArray[np.float64]


def corrupt(image: Image.Image, corruption: Corruption, severity: int, case: str = "") -> Image.Image:
    """Return an image of 224 × 224 pixels in RGB with one corruption.

    Severities are those of ImageNet-C, and so is the size: the whole image is resized to it first. A model with a
    smaller input averages a part of the noise away.

    Args:
        image: at its own size.
        corruption: ``gaussian_noise``, ``gaussian_blur``, ``contrast``, ``brightness`` or ``jpeg_compression``.
        severity: from 1 to 5.
        case: id of the case, which the noise follows from: equal ids give equal pixels.

    Raises:
        ValueError: there is no such corruption or severity.

    Examples:
        >>> gray = Image.new("RGB", (64, 48), (100, 100, 100))
        >>> corrupt(gray, "brightness", 1).getpixel((0, 0)), corrupt(gray, "brightness", 2).getpixel((0, 0))
        ((126, 126, 126), (151, 151, 151))
    """
    if corruption not in get_args(Corruption) or severity not in range(1, 6):
        raise ValueError(
            f"There is no corruption {corruption!r} of severity {severity}. Give one of "
            f"{', '.join(get_args(Corruption))}, with a severity from 1 to 5."
        )
    resized = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if corruption == "jpeg_compression":
        return _jpeg(resized, (25, 18, 15, 10, 7)[severity - 1])
    x = np.asarray(resized, dtype=np.float64) / 255
    if corruption == "gaussian_noise":
        digest = hashlib.sha256(f"{case} {corruption} {severity}".encode()).digest()
        x = _noise(x, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], int.from_bytes(digest[:8]))
    else:
        change, amounts = CHANGES[corruption]
        x = change(x, amounts[severity - 1])
    return Image.fromarray((np.clip(x, 0, 1) * 255).round().astype(np.uint8))


def _noise(x: Array, sd: float, seed: int) -> Array:
    return x + np.random.default_rng(seed).normal(scale=sd, size=x.shape)


def _blur(x: Array, sigma: float) -> Array:
    blurred: Array = gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    return blurred


def _contrast(x: Array, share: float) -> Array:
    """Shrink each channel's distances from its mean."""
    mean = x.mean((0, 1))
    shrunk: Array = (x - mean) * share + mean
    return shrunk


def _brightness(x: Array, more: float) -> Array:
    """Raise V of HSV; hue and saturation stay, so that all channels are multiplied by the same factor."""
    v = x.max(-1, keepdims=True)
    brighter = np.minimum(v + more, 1)
    raised: Array = np.where(v > 0, x * brighter / np.where(v > 0, v, 1), brighter)
    return raised


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


CHANGES: dict[str, tuple[Callable[[Array, float], Array], tuple[float, ...]]] = {
    "gaussian_blur": (_blur, (1, 2, 3, 4, 6)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
}
"""Changes of an image (H, W, 3) with values from 0 to 1, each with its amount by severity."""

"""An image file becomes RGB pixels, and RGB pixels become a model's input."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps

from shpeft.errors import UnreadableImage

ImageSource = str | Path | bytes | BinaryIO | Image.Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Pillow knows more, among them EPS, which would start an interpreter on an upload."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".jp2")

MAX_PIXELS = 80_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unpack to gigabytes."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def open_image(source: ImageSource) -> Image.Image:
    """Read an image, upright and in RGB, whatever its mode.

    EXIF orientation is applied, 16-bit and float grey values are scaled by their own range, transparency is laid on
    black, and of an animation the first frame is taken.

    Raises:
        UnreadableImage: not an image, a damaged one, or one that is too large.
    """
    name = str(source) if isinstance(source, str | Path) else "the uploaded file"
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(
                    f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are"
                    " read. Save a smaller copy."
                )
            return _to_rgb(image)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on damaged files
        raise UnreadableImage(f"{name} cannot be read as an image: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """A decoder's error as a phrase without paths or object addresses."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError | PermissionError):
        return "it is a folder or may not be read"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not a PNG, JPEG, TIFF, BMP, GIF, WebP, PPM or JPEG 2000 image, or its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS // 10**6} million pixels"
    return f"it is damaged ({error})"


def _to_rgb(image: Image.Image) -> Image.Image:
    """A loaded copy in mode RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _stretch(np.asarray(image, dtype=np.float64))
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> Image.Image:
    """Grey values of any range, to 8 bits from their smallest to their largest finite value."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    return Image.fromarray(np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8))


@dataclass(frozen=True)
class InputTransform:
    """How a backbone wants its images: the side in pixels, and the mean and deviation of each channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Resize the whole image to the square, so that no diagnostic pixel is cropped away: uint8 (3, S, S)."""
        resized = image.convert("RGB").resize((self.size, self.size), RESAMPLING[self.interpolation])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale uint8 (..., 3, S, S) to float32 with the backbone's mean and deviation."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """One image as a batch: float32 (1, 3, S, S)."""
        return self.normalise(self.pixels(image))[None]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputTransform":
        """The inverse of :meth:`to_dict`."""
        mean, std = (tuple(float(x) for x in values[key]) for key in ("mean", "std"))
        return cls(int(values["size"]), mean, std, str(values["interpolation"]))  # type: ignore[arg-type]

"""Turn an RGB image into the input of a model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from shpeft.support.image_size import ImageSize, height_and_width, read_image_size

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class InputTransform:
    """The input format of a backbone.

    Attributes:
        size: side S of a square input in pixels, or ``HEIGHTxWIDTH``; a pair (height, width) is read as such.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        interpolation: resampling filter, a key of ``RESAMPLING``.
        channels: 3 for RGB; 1 for gray, by the luminance of ITU-R 601, with the means of ``mean`` and ``std``.
    """

    size: ImageSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    channels: int = 3

    def __post_init__(self) -> None:
        """Write the size in its one form.

        Raises:
            ValueError: it is no size.
        """
        object.__setattr__(self, "size", read_image_size(self.size))

    @property
    def shape(self) -> tuple[int, int]:
        """The height H and the width W of the input in pixels."""
        return height_and_width(self.size)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Resize the whole image, so that no diagnostic pixel is cropped: uint8 (3, H, W)."""
        height, width = self.shape
        resized = image.convert("RGB").resize((width, height), RESAMPLING[self.interpolation])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the model's inputs, float32: pixels from 0 to 255 (..., 3, H, W) scaled by the mean and deviation."""
        if self.channels == 1:
            return (luminance(pixels) / 255 - sum(self.mean) / 3) / (sum(self.std) / 3)
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the inputs for one image, a batch of one: float32 (1, 3, H, W), of gray ones (1, 1, H, W)."""
        return self.normalize(self.pixels(image))[None]

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON types; transforms of three channels do not name them."""
        values = asdict(self)
        return values if self.channels != 3 else {name: v for name, v in values.items() if name != "channels"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputTransform":
        """Return the transform that :meth:`to_dict` describes."""
        mean, std = (tuple(float(x) for x in values[key]) for key in ("mean", "std"))
        channels = int(values.get("channels", 3))
        return cls(values["size"], mean, std, str(values["interpolation"]), channels)  # type: ignore[arg-type]


def luminance(pixels: torch.Tensor) -> torch.Tensor:
    """Return gray values (..., 1, H, W), float32, of RGB from 0 to 255; of whole numbers those of Pillow's mode L.

    Examples:
        >>> luminance(torch.tensor([[[[200]], [[100]], [[50]]]], dtype=torch.uint8)).item()
        124.0
    """
    if pixels.dtype == torch.uint8:
        red, green, blue = pixels.int().unbind(-3)
        gray = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    else:
        red, green, blue = pixels.float().unbind(-3)
        gray = 0.299 * red + 0.587 * green + 0.114 * blue
    return gray.float().unsqueeze(-3)

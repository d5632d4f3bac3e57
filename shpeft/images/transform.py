"""Turn an RGB image into the input of a model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

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
        size: side S of the square input in pixels.
        mean, std: mean and standard deviation of each channel, for values from 0 to 1.
        interpolation: resampling filter, a key of ``RESAMPLING``.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Resize the whole image, so that no diagnostic pixel is cropped: uint8 (3, S, S)."""
        resized = image.convert("RGB").resize((self.size, self.size), RESAMPLING[self.interpolation])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the model's inputs, float32: pixels from 0 to 255 (..., 3, S, S) scaled by the mean and deviation."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the inputs for one image, a batch of one: float32 (1, 3, S, S)."""
        return self.normalize(self.pixels(image))[None]

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputTransform":
        """Return the transform that :meth:`to_dict` describes."""
        mean, std = (tuple(float(x) for x in values[key]) for key in ("mean", "std"))
        return cls(int(values["size"]), mean, std, str(values["interpolation"]))  # type: ignore[arg-type]

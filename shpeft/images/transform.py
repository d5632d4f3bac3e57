"""RGB pixels become a model's input."""

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

"""The size of a model's input: one side of a square, or height and width."""

import re
from typing import Any

ImageSize = int | str
"""The side of a square in pixels, or ``HEIGHTxWIDTH`` such as ``224x448``; a square is always a number."""


def read_image_size(value: Any) -> ImageSize:
    """Read a size as people write it: a side, ``HEIGHTxWIDTH``, or a pair (height, width).

    Raises:
        ValueError: anything else.

    Examples:
        >>> [read_image_size(size) for size in (224, "224", "224x448", "224 × 448", (224, 448), [224, 224])]
        [224, 224, '224x448', '224x448', '224x448', 224]
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    parts = list(value) if isinstance(value, list | tuple) else re.split(r"\s*[xX×]\s*", str(value).strip())
    sides = [int(part) for part in map(str, parts) if re.fullmatch(r"[0-9]{1,9}", part)]
    if isinstance(value, bool) or len(sides) != len(parts) or len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(
            f"the image size {value!r} is neither the side of a square in pixels, such as 224, nor height x width, "
            "such as 224x448"
        )
    return sides[0] if sides[0] == sides[-1] else f"{sides[0]}x{sides[1]}"


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Return the height and the width in pixels.

    Examples:
        >>> height_and_width(224), height_and_width("224x448")
        ((224, 224), (224, 448))
    """
    if isinstance(size, int):
        return size, size
    height, _, width = size.partition("x")
    return int(height), int(width)

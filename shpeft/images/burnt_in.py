"""Text, calipers and colored marks that are burnt into the pixels of an image.

They may show a name, or give the class away: a model can learn the mark and not the disease.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from shpeft.images.facts import Facts

Array = NDArray[np.float32]
Kind = Literal["text", "calipers", "color"]

LONGEST = 768
"""Pixels of the longer side at which an image is searched; larger images are reduced."""

THIN, THICK = 5, 11
"""Sides in pixels of the squares that remove thin and thick strokes: letters are made of strokes thinner than these."""

CONTRAST, CLEAR, STRONG = 60.0, 75.0, 95.0
"""Gray levels by which strokes differ from what surrounds them: in a row of many letters, of three and of two."""

LEVEL = 0.3
"""How far the gray level may vary along the strokes of letters, as a share of their contrast."""

CROSS = 40.0
"""Gray levels by which the arms of a cross differ from what is between them."""

UNEVEN = 0.3
"""Standard deviation of the gray levels of a cross, as a share of that difference."""

HEIGHTS = 5, 80
"""Pixels of the lowest and the highest letter."""


@dataclass(frozen=True)
class Mark:
    """A row of letters, a caliper or a colored mark.

    Attributes:
        kind: what it is.
        box: left, top, right and bottom, in pixels of the image.
    """

    kind: Kind
    box: tuple[int, int, int, int]


def find_marks(image: Image.Image) -> tuple[Mark, ...]:
    """Find text, calipers and colored marks in the pixels of an image.

    Letters are strokes of one gray level that differ from what surrounds them, of a letter's proportions, in rows.
    Calipers are pairs of crosses. In an image that is gray everywhere else, every small colored part is a mark.

    Args:
        image: in RGB or gray.

    Returns:
        The marks, none if nothing is found. Faint, blurred and single letters are missed, and so are dotted lines;
        benchmarks/RESULTS.md has the rates.

    Examples:
        >>> from PIL import Image, ImageDraw
        >>> image = Image.new("RGB", (200, 100), (40, 40, 40))
        >>> find_marks(image)
        ()
        >>> ImageDraw.Draw(image).text((20, 20), "LEFT 4711", fill="white")
        >>> [mark.kind for mark in find_marks(image)]
        ['text']
    """
    scale = max(1.0, max(image.size) / LONGEST)
    if scale > 1:
        size = max(1, round(image.width / scale)), max(1, round(image.height / scale))
        image = image.resize(size, Image.Resampling.BOX)
    colors = np.asarray(image.convert("RGB"), np.float32)
    if min(colors.shape[:2]) < 4 * HEIGHTS[0]:
        return ()
    channels = [colors[..., channel] for channel in range(3)]  # much faster than reducing the last axis
    value, lowest = np.maximum.reduce(channels), np.minimum.reduce(channels)
    dark, thin = 255 - value, _strokes(value, THIN)
    boxes: list[tuple[Kind, Box]] = [("color", box) for box in _colored(value - lowest)]
    for level, strokes in ((value, thin), (value, _strokes(value, THICK)), (dark, _strokes(dark, THIN))):
        boxes += [("text", box) for box in _rows(level, strokes) if not _meets(box, boxes)]
    boxes += [("calipers", box) for box in _calipers(value, thin)]
    return tuple(
        Mark(kind, (int(x0 * scale), int(y0 * scale), round(x1 * scale), round(y1 * scale)))
        for kind, (x0, y0, x1, y1) in boxes
    )


@dataclass(frozen=True)
class BurntIn:
    """What is burnt into the pixels of an image: as seen in them, and as its file says.

    Attributes:
        marks: what is seen.
        stated: what the file says (DICOM BurnedInAnnotation); None if it says nothing.

    Examples:
        >>> from PIL import Image
        >>> BurntIn.of_image(Image.new("RGB", (200, 100), (40, 40, 40))).sentence
        ''
        >>> BurntIn((Mark("calipers", (3, 4, 12, 13)),)).sentence
        'Calipers are visible in the image: check that the answer does not rest on them.'
    """

    marks: tuple[Mark, ...]
    stated: bool | None = None

    @classmethod
    def of_image(cls, image: Image.Image) -> "BurntIn":
        """Search an image that ``open_image`` read; of any other, nothing is known but its pixels."""
        return cls(find_marks(image), Facts.of_image(image).burnt_in)

    @classmethod
    def of_series(cls, slices: Sequence["BurntIn"]) -> "BurntIn":
        """Return what is burnt into any slice of a series."""
        stated = {each.stated for each in slices}
        marks = tuple(mark for each in slices for mark in each.marks)
        return cls(marks, True if True in stated else False if stated == {False} else None)

    @property
    def present(self) -> bool:
        """Whether something is seen, or stated by the file."""
        return bool(self.marks) or bool(self.stated)

    @property
    def sentence(self) -> str:
        """What a reader of the image should know; empty if nothing is burnt in."""
        kinds = {mark.kind for mark in self.marks}
        if "text" in kinds or "color" in kinds:
            what = "Text is" if kinds == {"text"} else "Text or markers are"
            seen = f"{what} visible in the image: check that no name is shown and that the answer does not rest on it."
        elif kinds:
            seen = "Calipers are visible in the image: check that the answer does not rest on them."
        else:
            seen = ""
        if self.stated:
            return f"The file says that text is burnt into the image. {seen or 'Check that it shows no name.'}"
        if self.stated is False and seen:
            return f"{seen} The file says that no text is burnt in."
        return seen

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        kinds = sorted({mark.kind for mark in self.marks})
        return {"present": self.present, "seen": kinds, "stated": self.stated, "sentence": self.sentence}


def outlined(image: Image.Image, marks: tuple[Mark, ...]) -> Image.Image:
    """Return a copy in RGB with a red frame around each mark."""
    copy = image.convert("RGB")
    width = max(1, round(max(copy.size) / 200))
    for mark in marks:
        left, top, right, bottom = mark.box
        margin = 2 * width
        ImageDraw.Draw(copy).rectangle(
            (left - margin, top - margin, right + margin, bottom + margin), outline=(255, 60, 60), width=width
        )
    return copy


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Letter:
    box: Box
    level: float
    contrast: float
    unevenness: float  # of the gray levels along the strokes, as a share of the contrast

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]


def _strokes(value: Array, side: int) -> Array:
    """Return by how much what is thinner than ``side`` pixels is brighter than what surrounds it."""
    hat: Array = value - ndimage.grey_opening(value, (side, side))
    return hat


def _rows(value: Array, strokes: Array) -> list[Box]:
    """Return the boxes of rows of letters that are brighter than what surrounds them."""
    letters = _letters(value, strokes > CONTRAST)
    return [_around([letter.box for letter in row]) for row in _aligned(letters) if _is_text(row, max(value.shape))]


def _letters(value: Array, strokes: NDArray[np.bool_]) -> list[_Letter]:
    """Return the connected strokes with a letter's proportions, one gray level and sharp edges."""
    labels, count = ndimage.label(strokes, np.ones((3, 3)))
    letters = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (HEIGHTS[0] <= height <= HEIGHTS[1] and width <= 1.8 * height):
            continue
        window = slice(max(0, rows.start - 3), rows.stop + 3), slice(max(0, columns.start - 3), columns.stop + 3)
        part, own = value[window], labels[window] == number
        fill = own.sum() / (height * width)
        if not 0.15 <= fill <= (1.0 if width <= 0.4 * height else 0.85):
            continue
        near = ndimage.binary_dilation(own, np.ones((3, 3)))
        ring = ndimage.binary_dilation(near, np.ones((3, 3))) & ~near & ~strokes[window]
        if not ring.any():
            continue
        level = float(np.quantile(part[own], 0.7))
        contrast = level - float(np.quantile(part[ring], 0.8))
        if contrast >= CONTRAST:
            core = part[own & (part > level - contrast / 2)]
            unevenness = float(np.quantile(core, 0.9) - np.quantile(core, 0.4)) / contrast
            letters.append(_Letter((columns.start, rows.start, columns.stop, rows.stop), level, contrast, unevenness))
    return letters


def _aligned(letters: list[_Letter]) -> list[list[_Letter]]:
    """Return the rows of letters: side by side, on one baseline, of one height and one gray level."""
    rows: list[list[_Letter]] = []
    for letter in sorted(letters, key=lambda each: each.box[0]):
        for row in rows:
            if _follows(row[-1], letter):
                row.append(letter)
                break
        else:
            rows.append([letter])
    return rows


def _follows(left: _Letter, right: _Letter) -> bool:
    height = max(left.height, right.height)
    return (
        -0.2 * height <= right.box[0] - left.box[2] <= 1.0 * height
        and min(left.height, right.height) >= 0.65 * height
        and abs(left.box[3] - right.box[3]) <= max(1, 0.15 * height)
        and abs(left.level - right.level) <= 30
    )


def _is_text(row: list[_Letter], side: int) -> bool:
    """Return whether a row is a text: the fewer letters, the smaller, the more contrast and the more like letters.

    Pairs of ventricles, teeth and folds of the brain also stand side by side, but vary along their strokes.
    """
    contrast, height, unevenness, width = np.median(
        [(letter.contrast, letter.height, letter.unevenness, letter.box[2] - letter.box[0]) for letter in row], 0
    )
    if unevenness > LEVEL:
        return False
    if len(row) == 2:
        return bool(contrast >= STRONG and height <= max(14, 0.05 * side) and 0.4 * height <= width <= 1.3 * height)
    if len(row) == 3:
        return bool(contrast >= CLEAR and height <= max(18, 0.08 * side))
    return bool(len(row) > 3 and height <= 0.1 * side)


ARMS = ((4, 3), (4, 4), (5, 3), (5, 5), (6, 4), (7, 7), (9, 9))
"""Pixels from the middle of a cross to its ends, up and to the side; images are often squeezed."""

REACH = 16
"""Pixels around a cross that are looked at."""

UPRIGHT, OBLIQUE = ((1, 0), (-1, 0), (0, 1), (0, -1)), ((1, 1), (-1, -1), (1, -1), (-1, 1))
"""Directions of the arms of + and ×, the opposite ones side by side."""


def _calipers(value: Array, hat: Array) -> list[Box]:
    """Return the boxes of crosses, upright or oblique, if two or more have the same size and gray level."""
    points = np.argwhere(hat > CROSS) + REACH
    padded = np.pad(value, REACH, mode="edge")
    boxes: list[Box] = []
    for arms in (UPRIGHT, OBLIQUE):
        for lengths in ARMS:
            if arms is OBLIQUE and lengths[0] != lengths[1]:
                continue
            crosses = _crosses(padded, points, arms, lengths)
            if len(crosses) >= 2:
                boxes += [box for box in crosses if not any(_overlap(box, other) for other in boxes)]
    return boxes


def _crosses(
    padded: Array,
    points: NDArray[np.int64],
    arms: tuple[tuple[int, int], ...],
    lengths: tuple[int, int],
) -> list[Box]:
    """Return the boxes of bright crosses with arms of these lengths, in the pixels of the image.

    The arms are of one gray level, and brighter than both of their sides, save two sides, and than what lies beyond all
    but one of their ends: a dotted line or a number may stand beside a cross.
    """

    def values(offsets: list[tuple[int, int]]) -> Array:
        dy, dx = np.array(offsets).T[:, :, None]
        at: Array = padded[points[:, 0] + dy, points[:, 1] + dx]
        return at

    inside: list[Array] = []
    sides, ends = [], []
    for dy, dx in arms:
        length = lengths[0] if dy else lengths[1]
        inside.append(values([(dy * step, dx * step) for step in range(length + 1)]))
        for y, x in ((dx, -dy), (-dx, dy)):  # at a right angle
            sides.append(values([(dy * step + 2 * y, dx * step + 2 * x) for step in range(2, length + 1)]).mean(0))
        ends.append(values([(dy * (length + 3), dx * (length + 3))])[0])
    every = np.concatenate(inside)
    bright = np.min([arm.mean(0) for arm in inside], 0)
    dark = np.maximum(np.sort(sides, 0)[-3], np.sort(ends, 0)[-2])
    crossed = (bright - dark >= CROSS) & (every.std(0) <= UNEVEN * (bright - dark))
    boxes: list[Box] = []
    for y, x in points[crossed] - REACH:
        box = (int(x) - lengths[1], int(y) - lengths[0], int(x) + lengths[1] + 1, int(y) + lengths[0] + 1)
        if not any(_overlap(box, other) for other in boxes):
            boxes.append(box)
    return boxes


GRAY, COLORFUL = 24.0, 70.0
"""Differences between the channels, in gray levels: of gray pixels at most, of colored ones at least."""


def _colored(chroma: Array) -> list[Box]:
    """Return the boxes of small colored parts of an image that is gray everywhere else, by its channels' range."""
    colored = chroma > COLORFUL
    if not colored.any() or (chroma > GRAY).mean() > 0.05:
        return []
    labels, count = ndimage.label(ndimage.binary_dilation(colored, np.ones((3, 3))), np.ones((3, 3)))
    sizes = ndimage.sum_labels(colored, labels, np.arange(1, count + 1))
    return [
        (columns.start, rows.start, columns.stop, rows.stop)
        for (rows, columns), size in zip(ndimage.find_objects(labels, count), sizes, strict=True)
        if size >= 6
    ]


def _around(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = np.array(boxes).T
    return int(x0.min()), int(y0.min()), int(x1.max()), int(y1.max())


def _meets(box: Box, others: list[tuple[Kind, Box]]) -> bool:
    return any(_overlap(box, other) for _, other in others)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

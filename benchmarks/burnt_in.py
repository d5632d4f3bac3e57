"""Measure the search for text and calipers in images: what it finds of drawn marks, and its false alarms.

Letters and crosses of several sizes and contrasts are drawn onto generated images, which are saved as JPEG, as exports
are. Training images of your datasets are searched as they are. With a table of labels that a person gave by eye
(columns ``file`` and ``marked``, yes or no), sensitivity and false alarms on these files are reported.

    python benchmarks/burnt_in.py [--data SET --data SET] [--labels TABLE] [--drawn 20]
"""

import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from harness import arguments, publish, table
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from shpeft.datasets import Split, load_dataset
from shpeft.images import open_image
from shpeft.images.burnt_in import find_marks

FAMILIES = ("ultrasound", "chest_xray", "mri", "fundus", "dermoscopy", "histology")
CALIPERS = ("ultrasound", "chest_xray", "mri")
"""Kinds of images that calipers are drawn on, in white."""

TEXTS = ("RT AXILLA", "L LOQ", "PORTABLE", "12:45:10", "Smith, A", "ID 4711", "kV 80")

HEIGHTS = (6, 8, 12, 20, 32)
"""Pixels of a capital letter."""

ARMS = (4, 6, 9)
"""Pixels of a caliper's arm."""

CONTRASTS = (80, 120, 180)
"""Gray levels by which a mark is brighter than the brightest tenth of what it covers."""

BLURS = (0.0, 0.7)
"""Standard deviations of the blur, in pixels."""

SIDE = 384

Draw = Callable[[Image.Image, int, int, np.random.Generator], None]


def main() -> None:
    """Print the tables."""
    parser = arguments("what the search for text and markers finds")
    parser.add_argument("--data", action="append", default=[], help="a dataset whose training images are searched")
    parser.add_argument("--labels", type=Path, help="a table with the columns file and marked, by eye")
    parser.add_argument("--drawn", type=int, default=20, help="images of each family")
    chosen = parser.parse_args()
    parts = [*drawn(chosen.drawn)]
    if chosen.data:
        rows = [(source, *searched(load_dataset(source).train)) for source in chosen.data]
        parts.append(table(["training images of", "images", "marked", "ms an image"], rows))
    if chosen.labels:
        parts.append(labeled(chosen.labels))
    publish("Text and markers burnt into the pixels", "\n\n".join(parts), chosen.write)


def drawn(count: int) -> Iterator[str]:
    """Yield the tables of generated images: sensitivity by size, contrast and blur, and false alarms."""
    splits = {name: load_dataset(f"phantom:{name}?n={max(36, 4 * count)}&size={SIDE}").train for name in FAMILIES}
    images = {name: [split.image(row) for row in range(count)] for name, split in splits.items()}
    for title, draw, sizes in (("letters of", write, HEIGHTS), ("arms of", cross, ARMS)):
        rows = []
        for size in sizes:
            shares = []
            for contrast in CONTRASTS:
                for blur in BLURS:
                    rng = np.random.default_rng(size)
                    hits = [
                        bool(find_marks(exported(image, draw, size, contrast, blur, rng)))
                        for family, each in images.items()
                        if draw is write or family in CALIPERS
                        for image in each
                    ]
                    shares.append(f"{np.mean(hits):.0%}")
            rows.append((f"{size} px", *shares))
        header = [f"{contrast}{', blurred' if blur else ''}" for contrast in CONTRASTS for blur in BLURS]
        cases = count * len(FAMILIES if draw is write else CALIPERS)
        lead = f"Images with marks, {cases} a cell: the share that is recognized, by gray levels above the background."
        yield f"{lead}\n\n{table([title, *header], rows)}"
    alarms = [(name, *searched(split)) for name, split in splits.items()]
    yield table(["generated images without marks", "images", "marked: false alarms", "ms an image"], alarms)


def exported(
    image: Image.Image, draw: Draw, size: int, contrast: int, blur: float, rng: np.random.Generator
) -> Image.Image:
    """Return the image with a mark, as a JPEG of quality 90."""
    marked, level = image.copy(), np.quantile(np.asarray(image), 0.9)
    gray = int(np.clip(level + contrast, 0, 255))
    if level + contrast > 255 and draw is write:  # on a light image, dark marks
        gray = int(np.clip(np.quantile(np.asarray(image), 0.1) - contrast, 0, 255))
    draw(marked, size, gray, rng)
    buffer = io.BytesIO()
    marked.filter(ImageFilter.GaussianBlur(blur)).save(buffer, "JPEG", quality=90)
    return open_image(buffer.getvalue())


def write(image: Image.Image, height: int, gray: int, rng: np.random.Generator) -> None:
    """Write a text somewhere."""
    text, font = TEXTS[rng.integers(len(TEXTS))], ImageFont.load_default(height * 1.4)
    room = max(1, SIDE - int(font.getlength(text)) - 8), SIDE - 2 * height
    at = int(rng.integers(room[0])), int(rng.integers(room[1]))
    ImageDraw.Draw(image).text(at, text, fill=(gray,) * 3, font=font)


def cross(image: Image.Image, arm: int, gray: int, rng: np.random.Generator) -> None:
    """Draw a pair of crosses."""
    pen = ImageDraw.Draw(image)
    for x, y in rng.integers(2 * arm, SIDE - 2 * arm, (2, 2)):
        pen.line((x - arm, y, x + arm, y), fill=(gray,) * 3)
        pen.line((x, y - arm, x, y + arm), fill=(gray,) * 3)


def searched(split: Split) -> tuple[str, str, str]:
    """Return the number of images, how many of them are marked, and the time of one."""
    seconds, marked = 0.0, 0
    for row in range(len(split)):
        image = split.image(row)
        began = time.process_time()
        marked += bool(find_marks(image))
        seconds += time.process_time() - began
    return f"{len(split):,}", f"{marked:,}", f"{1000 * seconds / len(split):.0f}"


def labeled(path: Path) -> str:
    """Return the table of files that were labeled by eye; they are relative to the table."""
    counts = {"yes": [0, 0], "no": [0, 0]}
    with path.open(newline="") as handle:
        for row in csv.DictReader(handle):
            hit = bool(find_marks(open_image(path.parent / row["file"])))
            counts[row["marked"]][0] += hit
            counts[row["marked"]][1] += 1
    names = {"yes": "marked, by eye", "no": "not marked, by eye"}
    return table(["images", "number", "found"], [(names[key], count[1], count[0]) for key, count in counts.items()])


if __name__ == "__main__":
    main()

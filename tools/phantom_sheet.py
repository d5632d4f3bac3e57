"""Draw contact sheets of the phantoms for a visual comparison with real images: a row for each class.

    python tools/phantom_sheet.py fundus mri --out sheets
    python tools/phantom_sheet.py fundus --real fundus=photographs/train --out sheets
    python tools/phantom_sheet.py --overview assets/phantoms.jpg

A folder of real images has a folder for each class. Do not publish sheets with real images.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from shpeft.datasets import load_dataset
from shpeft.datasets.phantoms.source import KINDS

TITLE = 14
"""Height of the line above each row."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}

Row = tuple[str, list[Image.Image]]


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Draw a cyan outline around the lesion of an image."""
    pixels = np.array(image)
    pixels[binary_dilation(mask, iterations=2) & ~binary_dilation(mask)] = (0, 255, 255)
    return Image.fromarray(pixels)


def phantoms(kind: str, columns: int, size: int, difficulty: float) -> Iterator[Row]:
    """Yield images of each class, and the same images with outlined lesions."""
    count = max(12, 3 * columns * len(KINDS[kind].classes))
    split = load_dataset(f"phantom:{kind}?n={count}&size={size}&difficulty={difficulty:g}").test
    for label, name in enumerate(split.classes):
        rows = [row for row in range(len(split)) if split.labels[row] == label][:columns]
        images, masks = [split.image(row) for row in rows], [split.mask(row) for row in rows]
        yield name, images
        if any(mask is not None and mask.any() for mask in masks):
            yield f"{name}, outlined", [outlined(*pair) for pair in zip(images, masks, strict=True)]


def overview(each: int, size: int) -> Iterator[Row]:
    """Yield a row for each phantom, with some images of every class."""
    for kind, drawn in KINDS.items():
        split = load_dataset(f"phantom:{kind}?size={size}").test
        order = sorted(range(each * len(drawn.classes)), key=lambda row: split.labels[row])
        yield f"phantom:{kind}: {', '.join(drawn.classes)}", [split.image(row) for row in order]


def real(folder: Path, columns: int, size: int) -> Iterator[Row]:
    """Yield some images of each class folder, resized to a square as for a model."""
    for group in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in group.iterdir() if path.suffix.lower() in SUFFIXES)
        chosen = np.random.default_rng(0).permutation(len(files))[:columns]
        yield f"real: {group.name}", [Image.open(files[row]).convert("RGB").resize((size, size)) for row in chosen]


def sheet(rows: list[Row], size: int) -> Image.Image:
    """Draw all rows, each below its title."""
    columns = max(len(images) for _, images in rows)
    canvas = Image.new("RGB", (columns * (size + 2), len(rows) * (size + 2 + TITLE)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (title, images) in enumerate(rows):
        top = number * (size + 2 + TITLE)
        draw.text((2, top), title, fill="black")
        for column, image in enumerate(images):
            canvas.paste(image, (column * (size + 2), top + TITLE))
    return canvas


def main() -> None:
    """Read the options and write a sheet for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all when none is named")
    parser.add_argument("--real", action="append", default=[], metavar="KIND=FOLDER", help="may be repeated")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--difficulty", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("sheets"), help="folder for the sheets")
    parser.add_argument("--overview", type=Path, metavar="FILE", help="one sheet of all phantoms instead")
    options = parser.parse_args()
    if options.overview:
        sheet(list(overview(3, options.size)), options.size).save(options.overview)
        return
    folders = dict(pair.split("=", 1) for pair in options.real)
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or KINDS:
        rows = list(phantoms(kind, options.columns, options.size, options.difficulty))
        if kind in folders:
            rows += real(Path(folders[kind]), options.columns, options.size)
        path = options.out / f"{kind}.png"
        sheet(rows, options.size).save(path)
        print(path)


if __name__ == "__main__":
    main()

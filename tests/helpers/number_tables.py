"""A table of images with a number that a model can learn: the brightness of a disc."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def write_numbers(
    root: Path, cases: int = 60, title: str = "brightness [%]", cell: Callable[[int, float], str] = lambda _, v: f"{v}"
) -> Path:
    """Write images and ``numbers.csv``; return the table. Two images belong to each patient, and a third is the test.

    Args:
        title: of the column of numbers.
        cell: what the table says of an image, by its number and its true value.
    """
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:32, :32]
    with (root / "numbers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", title, "patient_id", "site", "split"])
        for number in range(cases):
            value = round(float(rng.uniform(10, 90)), 1)
            pixels = rng.normal(60, 10, (32, 32))
            pixels[(rows - 16) ** 2 + (columns - 16) ** 2 < 120] = 2.55 * value
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("RGB")
            image.save(root / f"{number:03d}.png")
            split = "test" if (number // 2) % 3 == 2 else "train"
            writer.writerow([f"{number:03d}.png", cell(number, value), number // 2, "AB"[number % 2], split])
    return root / "numbers.csv"

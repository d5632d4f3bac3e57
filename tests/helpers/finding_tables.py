"""A table of images with findings that a model can learn: a bright disc, a dark bar, and a gray frame."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FINDINGS = ("bar", "disc", "frame")


def draw(findings: Sequence[str], seed: int, size: int = 32) -> Image.Image:
    """Return an image with these findings on noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(110, 15, (size, size))
    rows, columns = np.mgrid[:size, :size]
    if "disc" in findings:
        pixels[(rows - 10) ** 2 + (columns - 10) ** 2 < 30] = 250
    if "bar" in findings:
        pixels[22:26] = 0
    if "frame" in findings:
        pixels[:, -3:] = 200
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert("RGB")


def write_findings(root: Path, cases: int = 96, seed: int = 0) -> Path:
    """Write images and ``labels.csv`` with a column ``Finding Labels``; return the table. A third is for the test."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Labels", "Patient ID", "split"])
        for number in range(cases):
            findings = [name for name in FINDINGS if rng.random() < 0.4]
            draw(findings, number).save(root / f"{number:03d}.png")
            split = "test" if number % 3 == 2 else "train"
            writer.writerow([f"{number:03d}.png", "|".join(findings) or "No Finding", number // 2, split])
    return root / "labels.csv"

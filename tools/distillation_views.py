"""Unlabeled views of images and generated phantoms, for the distillation of a small backbone."""

import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from shpeft.datasets.phantoms.source import KINDS
from shpeft.images import SUFFIXES, open_image

SIZE = 112
"""Side of a view in pixels."""

Job = tuple[str, int]
"""A file or ``phantom:KIND``, and the number of the view; view 0 is the whole image."""


def view(job: Job) -> np.ndarray:
    """Draw one view, uint8 (SIZE, SIZE, 3): the whole image for view 0, else a flipped and tinted crop."""
    name, number = job
    rng = np.random.default_rng([811, number, *name.encode()])
    if name.startswith("phantom:"):
        kind = KINDS[name.removeprefix("phantom:")]
        image = Image.fromarray(kind.draw(rng, number % len(kind.classes), SIZE, float(rng.uniform(0, 2))))
    else:
        image = open_image(name)
    if number and not name.startswith("phantom:"):
        share = math.sqrt(rng.uniform(0.25, 1.0))
        width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        image = image.crop((left, top, left + width, top + height))
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.75, 1.25))
    if number and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def jobs_of(folders: Sequence[str], phantoms: int, seed: int) -> list[Job]:
    """List the views of all images below each ``FOLDER:VIEWS`` and of phantoms of each kind, shuffled."""
    jobs: list[Job] = []
    for folder in folders:
        path, _, views = folder.rpartition(":")
        files = sorted(file for file in Path(path).rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise SystemExit(f"There are no images below {path}. Give --images FOLDER:VIEWS.")
        jobs += [(str(file), number) for file in files for number in range(int(views))]
    jobs += [(f"phantom:{kind}", number) for kind in KINDS for number in range(phantoms)]
    return [jobs[row] for row in np.random.default_rng(seed).permutation(len(jobs))]


def make_views(jobs: Sequence[Job], work: Path, threads: int) -> np.ndarray:
    """Draw all views, memory-mapped uint8 (N, SIZE, SIZE, 3)."""
    path = work / "views.npy"
    if not path.exists():
        partial = np.lib.format.open_memmap(
            work / "views.partial.npy", "w+", dtype=np.uint8, shape=(len(jobs), SIZE, SIZE, 3)
        )
        with ProcessPoolExecutor(threads) as workers:
            for row, pixels in enumerate(workers.map(view, jobs, chunksize=64)):
                partial[row] = pixels
        partial.flush()
        (work / "views.partial.npy").rename(path)
    return np.load(path, mmap_mode="r")

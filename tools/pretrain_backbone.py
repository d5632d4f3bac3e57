"""Make assets/embedded_vit.safetensors: a small vision transformer, pretrained on phantoms without their labels.

The images are healthy phantoms. Shapes are painted on them at random: spots, smooth and ragged blobs, lines, each
brighter or darker than what is below. From each token of the last block a linear layer predicts what its patch holds:
how much of each kind of shape, its colour, and its strongest spots at four scales. Lesions and the phantoms' class
labels are never seen.

    python tools/pretrain_backbone.py --minutes 20 --threads 1
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from shpeft.datasets.phantoms.source import KINDS
from shpeft.datasets.phantoms.texture import Canvas, outline

SIZE, PATCH = 112, 14
ARCHITECTURE = "vit_tiny_patch16_224"
KWARGS = {"img_size": SIZE, "patch_size": PATCH, "depth": 6, "class_token": False, "global_pool": "avg"}
MEAN = STD = (0.5, 0.5, 0.5)
SEEN = ("fundus", "ultrasound")
"""The kinds of phantom that the shipped file has seen."""

SHAPES = ("spots", "smooth", "ragged", "line")
OUTPUT = Path(__file__).resolve().parents[1] / "assets" / "embedded_vit.safetensors"


def healthy(kind: str, seed: int) -> np.ndarray:
    """A phantom without its lesion, at a random difficulty: uint8 (SIZE, SIZE, 3)."""
    rng = np.random.default_rng([977, seed])
    return KINDS[kind].draw(rng, None, SIZE, float(rng.uniform(0, 2)))


def _healthy(job: tuple[str, int]) -> np.ndarray:
    return healthy(*job)


def paint(rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put up to six groups of shapes on an image, and change its brightness and white balance.

    Returns the image, float32 (S, S, 3) in 0..1, and the share of each patch that each kind of shape covers,
    (patches, 2 x shapes): darker and brighter ones apart.
    """
    tint = 1 if np.array_equal(image[..., 0], image[..., 2]) else 3  # grey modalities stay grey
    image = image.astype(np.float32) / 255
    shares = np.zeros((2 * len(SHAPES), (SIZE // PATCH) ** 2), np.float32)
    for _ in range(rng.integers(1, 7)):
        shape, bright = int(rng.choice(len(SHAPES), p=(0.4, 0.2, 0.2, 0.2))), int(rng.integers(2))
        canvas = Canvas(SIZE)
        centre = rng.uniform(-0.7, 0.7, 2)
        for _ in range(rng.integers(2, 10) if SHAPES[shape] == "spots" else 1):
            _shape(rng, canvas, SHAPES[shape], centre)
        covered = canvas.coverage()
        colour = rng.uniform(0.7, 1.0, tint) if bright else rng.uniform(0.0, 0.25, tint)
        image += rng.uniform(0.2, 0.9) * covered[..., None] * (colour.astype(np.float32) - image)
        share = covered.reshape(SIZE // PATCH, PATCH, SIZE // PATCH, PATCH).mean((1, 3)).ravel()
        row = shares[2 * shape + bright]
        np.maximum(row, share, out=row)
    return image * rng.uniform(0.7, 1.3, tint).astype(np.float32), shares.T


def _shape(rng: np.random.Generator, canvas: Canvas, shape: str, centre: np.ndarray) -> None:
    tilt = rng.uniform(0, math.pi)
    if shape == "line":
        reach = rng.uniform(0.2, 0.8) * np.array([math.cos(tilt), math.sin(tilt)])
        bend = rng.normal(0, 0.15, 2)
        canvas.line(np.array([centre - reach, centre + bend, centre + reach]), rng.uniform(0.015, 0.06))
    elif shape == "spots":
        spot, radius = centre + rng.normal(0, 0.2, 2), rng.uniform(0.015, 0.05)
        canvas.polygon(outline(rng, tuple(spot), (radius, radius), tilt, 0.2, 14))
    else:
        radius, rough = rng.uniform(0.1, 0.4), 0.03 if shape == "smooth" else rng.uniform(0.15, 0.3)
        canvas.polygon(outline(rng, tuple(centre), (radius, radius * rng.uniform(0.5, 1)), tilt, rough, 40))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W)."""
    reach = round(3 * sigma)
    line = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    images = functional.pad(images, (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(images, line, groups=len(line)), line.transpose(2, 3), groups=len(line))


def describe(images: Tensor) -> Tensor:
    """Every patch's colour, and its strongest bright and dark spots at four scales: (B, 3, S, S) to (B, patches, 27).

    Spots are differences of Gaussians in brightness, red against green, and green against blue; on a log scale.
    """
    red, green, blue = images.unbind(1)
    opponents = torch.stack([images.mean(1), red - green, green - blue], 1)
    levels = [opponents, *(blur(opponents, sigma) for sigma in (0.7, 1.4, 2.8, 5.6))]
    spots = torch.cat([fine - coarse for fine, coarse in pairwise(levels)], 1)
    strongest = functional.max_pool2d(torch.cat([spots, -spots], 1), PATCH).clamp(min=0)
    values = torch.cat([functional.avg_pool2d(opponents, PATCH), (strongest + 2e-3).log()], 1)
    return values.flatten(2).transpose(1, 2)


def examples(pool: np.ndarray, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches: painted images, shares of the shapes in each patch, description of each patch."""
    rng = np.random.default_rng([978, seed])
    while True:
        images, shares = [], []
        for row in rng.integers(len(pool), size=batch):
            image, share = paint(rng, np.rot90(pool[row], rng.integers(4))[:, :: int(rng.choice((-1, 1)))])
            images.append(image)
            shares.append(share)
        clean = torch.from_numpy(np.stack(images)).clamp(0, 1).permute(0, 3, 1, 2)
        yield (clean - 0.5) / 0.5, torch.from_numpy(np.stack(shares)), describe(clean)


def start_from_components(model: nn.Module, images: Tensor) -> None:
    """Let the patch embedding begin as the principal components of patches, evened out, instead of at random."""
    patches = functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    values, vectors = values.flip(0)[: model.num_features], vectors.flip(1)[:, : model.num_features]
    weight = (vectors / (values + 1e-3 * values[0]).sqrt()).T
    with torch.no_grad():
        model.patch_embed.proj.weight.copy_(weight.reshape_as(model.patch_embed.proj.weight))
        model.patch_embed.proj.bias.copy_(-weight @ mean)


def train(pool: np.ndarray, minutes: float, batch: int, seed: int, checkpoint: Path) -> tuple[nn.Module, int]:
    """Pretrain for some minutes of processor time; returns the model without head, and how many images it saw."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, num_classes=0, **KWARGS)
    decoder = nn.Linear(model.num_features, 2 * len(SHAPES) + 27)
    parameters = [*model.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02, betas=(0.9, 0.98))
    sample, _, description = next(examples(pool, min(256, 4 * len(pool)), seed + 1))
    start_from_components(model, sample)
    mean, std = description.mean((0, 1)), description.std((0, 1))
    start, seen, shown = time.process_time(), 0, 0.0
    losses: list[tuple[float, float]] = []
    for images, shapes, description in examples(pool, batch, seed):
        spent = (time.process_time() - start) / 60 / minutes
        if spent >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, spent / 0.04) * (0.5 + 0.5 * math.cos(math.pi * spent))
        output = decoder(model.forward_features(images))
        held, there = output[..., : shapes.shape[-1]], (shapes * 6).clamp(max=1)
        painted = functional.binary_cross_entropy_with_logits(held, there, pos_weight=torch.tensor(4.0))
        described = functional.smooth_l1_loss(output[..., shapes.shape[-1] :], (description - mean) / std)
        optimizer.zero_grad()
        (painted + described).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen += batch
        losses.append((painted.item(), described.item()))
        if spent - shown > 0.02:
            shown = spent
            recent = np.mean(losses[-100:], axis=0)
            print(f"{spent:4.0%} images {seen} shapes {recent[0]:.4f} description {recent[1]:.4f}", flush=True)
            save(model, checkpoint, seen, minutes, seed)
    return model, seen


def save(model: nn.Module, path: Path, seen: int, minutes: float, seed: int) -> None:
    """Write the weights in half precision, with all that is needed to make the model again."""
    metadata = {
        "format": "shpeft.backbone/1",
        "architecture": ARCHITECTURE,
        "kwargs": json.dumps(KWARGS),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "interpolation": "bicubic",
        "image_size": str(SIZE),
        "description": f"Small ViT pretrained on {seen} views of generated images ({minutes:g} min, seed {seed}).",
        "licence": "Apache-2.0",
    }
    weights = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata)


def main() -> None:
    """Read the options, pretrain, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="processor time for the training itself")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=4000, help="healthy phantoms to paint on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    jobs = [(SEEN[index % len(SEEN)], options.seed * 1_000_000 + index) for index in range(options.images)]
    with ProcessPoolExecutor(options.threads) as workers:
        pool = np.stack(list(workers.map(_healthy, jobs, chunksize=64)))
    print(f"{len(pool)} healthy phantoms of {', '.join(SEEN)}", flush=True)
    checkpoint = options.out.with_suffix(".partial.safetensors")
    model, seen = train(pool, options.minutes, options.batch, options.seed, checkpoint)
    save(model, options.out, seen, options.minutes, options.seed)
    checkpoint.unlink(missing_ok=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

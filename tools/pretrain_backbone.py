"""Make assets/embedded_vit.safetensors: a small vision transformer, pretrained on phantoms without their labels.

The images are healthy phantoms. Shapes are painted on them at random (spots, smooth and ragged blobs, lines, each
brighter or darker than what is below), some patches are blanked, and from the tokens of the last block a linear layer
predicts for every patch: how much of each kind of shape it holds, and its colour, contrast and edge directions before
blanking. Lesions and the phantoms' class labels are never seen.

    python tools/pretrain_backbone.py --minutes 20 --threads 1
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
KWARGS = {"img_size": SIZE, "patch_size": PATCH, "depth": 8, "class_token": False, "global_pool": "avg"}
MEAN = STD = (0.5, 0.5, 0.5)
SHAPES = ("spots", "smooth", "ragged", "line")
OUTPUT = Path(__file__).resolve().parents[1] / "assets" / "embedded_vit.safetensors"


def healthy(kind: str, seed: int) -> np.ndarray:
    """A phantom of class 0, which has no lesion, at a random difficulty: uint8 (SIZE, SIZE, 3)."""
    rng = np.random.default_rng([977, seed])
    return KINDS[kind].draw(rng, 0, SIZE, float(rng.uniform(0, 2)))[0]


def _healthy(job: tuple[str, int]) -> np.ndarray:
    return healthy(*job)


def paint(rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put up to three groups of shapes on an image: float32 (S, S, 3) in 0..1 and coverage (2 x shapes, S, S)."""
    image = image.astype(np.float32) / 255
    coverage = np.zeros((2 * len(SHAPES), SIZE, SIZE), np.float32)
    for _ in range(rng.integers(0, 4)):
        shape, bright = int(rng.integers(len(SHAPES))), int(rng.integers(2))
        canvas = Canvas(SIZE)
        centre = rng.uniform(-0.7, 0.7, 2)
        for _ in range(rng.integers(2, 10) if SHAPES[shape] == "spots" else 1):
            _shape(rng, canvas, SHAPES[shape], centre)
        covered = canvas.coverage()
        colour = rng.uniform(0.0, 0.25, 3) if not bright else rng.uniform(0.7, 1.0, 3)
        image += rng.uniform(0.2, 0.9) * covered[..., None] * (colour.astype(np.float32) - image)
        coverage[2 * shape + bright] = np.maximum(coverage[2 * shape + bright], covered)
    return image, coverage


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


def describe(images: Tensor) -> Tensor:
    """Colour, contrast and edge directions of every patch: (B, 3, S, S) in 0..1 to (B, patches, 10)."""
    grey = images.mean(1, keepdim=True)
    dx = functional.pad(grey[..., :, 2:] - grey[..., :, :-2], (1, 1))
    dy = functional.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1))
    strength = (dx**2 + dy**2).sqrt() + 1e-6
    edges = [strength, dx**2 / strength, dy**2 / strength, dx.abs() * dy.abs() / strength, dx * dy / strength]
    means = functional.avg_pool2d(torch.cat([images, grey**2, *edges], 1), PATCH)
    contrast = (means[:, 3:4] - means[:, :3].mean(1, keepdim=True) ** 2).clamp(min=0).sqrt()
    return torch.cat([means, contrast], 1).flatten(2).transpose(1, 2)


def examples(pool: np.ndarray, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches: blanked images, shape coverage of each patch, description of each patch."""
    rng = np.random.default_rng([978, seed])
    while True:
        images, coverage = [], []
        for row in rng.integers(len(pool), size=batch):
            image, covered = paint(rng, np.rot90(pool[row], rng.integers(4))[:, :: int(rng.choice((-1, 1)))])
            image = np.clip(image * rng.uniform(0.7, 1.3, 3).astype(np.float32), 0, 1)
            images.append(image.transpose(2, 0, 1))
            coverage.append(covered)
        clean = torch.from_numpy(np.stack(images))
        shapes = functional.avg_pool2d(torch.from_numpy(np.stack(coverage)), PATCH).flatten(2).transpose(1, 2)
        blank = torch.from_numpy(rng.random((batch, 1, SIZE // PATCH, SIZE // PATCH)) < 0.2).float()
        blank = functional.interpolate(blank, scale_factor=PATCH)
        yield ((clean - 0.5) / 0.5) * (1 - blank), shapes, describe(clean)


def train(pool: np.ndarray, minutes: float, batch: int, seed: int, checkpoint: Path) -> tuple[nn.Module, int]:
    """Pretrain for a time; returns the model without head, and the number of images it saw."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, num_classes=0, **KWARGS)
    decoder = nn.Linear(model.num_features, 2 * len(SHAPES) + 10)
    parameters = [*model.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.02, betas=(0.9, 0.98))
    start, seen, shown = time.monotonic(), 0, 0.0
    first = next(examples(pool, 256, seed + 1))[2]
    mean, std = first.mean((0, 1)), first.std((0, 1))
    losses: list[tuple[float, float]] = []
    for images, shapes, description in examples(pool, batch, seed):
        spent = (time.monotonic() - start) / 60 / minutes
        if spent >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, spent / 0.04) * (0.5 + 0.5 * math.cos(math.pi * spent))
        output = decoder(model.fc_norm(model.forward_features(images)))
        painted = functional.binary_cross_entropy_with_logits(
            output[..., : shapes.shape[-1]], (shapes * 4).clamp(max=1)
        )
        described = functional.smooth_l1_loss(output[..., shapes.shape[-1] :], (description - mean) / std)
        optimizer.zero_grad()
        (5 * painted + described).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen += batch
        losses.append((painted.item(), described.item()))
        if spent - shown > 0.02:
            shown = spent
            recent = np.mean(losses[-50:], axis=0)
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
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=4000, help="healthy phantoms to paint on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = sorted(KINDS)
    jobs = [(names[index % len(names)], options.seed * 1_000_000 + index) for index in range(options.images)]
    with ProcessPoolExecutor(options.threads) as workers:
        pool = np.stack(list(workers.map(_healthy, jobs, chunksize=64)))
    print(f"{len(pool)} healthy phantoms of {', '.join(names)}", flush=True)
    checkpoint = options.out.with_suffix(".partial.safetensors")
    model, seen = train(pool, options.minutes, options.batch, options.seed, checkpoint)
    save(model, options.out, seen, options.minutes, options.seed)
    checkpoint.unlink(missing_ok=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

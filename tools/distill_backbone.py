"""Distil a small vision transformer from DINOv2 ViT-S/14, without labels, for the backbone name ``embedded``.

Three steps, each of which resumes after an interruption:

1. views: crops of images (and generated phantoms), randomly flipped and tinted, 112 px;
2. teacher: the output of DINOv2's first blocks for each view, a class token and 64 patch tokens;
3. student: the same blocks with matrices of four bits per weight, trained to reproduce the teacher's tokens in spite of
   the rounding. Its features are the mean of the patch tokens.

Only the first blocks are distilled: a linear probe of medical images is as accurate on them, at half the cost.

    python tools/distill_backbone.py --teacher dinov2_vits14_224.safetensors --images photos:1 --images scans/train:4 \
        --phantoms 300 --work distilled --minutes 20 --out small.safetensors
    shpeft finetune --backbone embedded --weights small.safetensors ...
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from distillation_views import SIZE, jobs_of, make_views
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shpeft.backbones.int4 import pack, packable, rounded

PATCH, WIDTH = 14, 384
TOKENS = 1 + (SIZE // PATCH) ** 2
TEACHER = "vit_small_patch14_dinov2"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SAVE_SECONDS = 60
"""Processor time between checkpoints."""


def normalize(pixels: np.ndarray) -> Tensor:
    """Convert uint8 pixels (B, S, S, 3) to a model's input, (B, 3, S, S)."""
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def load_teacher(path: Path) -> nn.Module:
    """Load DINOv2 ViT-S/14 for SIZE pixels from a file for 224 px; the position embedding is resampled."""
    model = timm.create_model(TEACHER, img_size=224, num_classes=0)
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)
    model.set_input_size((SIZE, SIZE))
    return model.eval().requires_grad_(False)


def tokens_of(model: nn.Module, images: Tensor, depth: int) -> Tensor:
    """Return the output of the first ``depth`` blocks, (B, TOKENS, WIDTH): the class token, then the patches."""
    patches, prefix = model.forward_intermediates(
        images,
        indices=[depth - 1],
        return_prefix_tokens=True,
        output_fmt="NLC",
        intermediates_only=True,
        stop_early=True,
    )[0]
    return torch.cat((prefix, patches), 1)


@torch.no_grad()
def ask_teacher(teacher: nn.Module, views: np.ndarray, work: Path, depth: int, batch: int = 32) -> np.ndarray:
    """Compute the teacher's tokens for every view, memory-mapped float16 (N, TOKENS, WIDTH)."""
    path, done = work / "tokens.npy", work / "tokens.done"
    shape = (len(views), TOKENS, WIDTH)
    if not path.exists():
        np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=shape).flush()
    tokens = np.load(path, mmap_mode="r+")
    first = int(done.read_text()) if done.exists() else 0
    for row in range(first, len(views), batch):
        tokens[row : row + batch] = tokens_of(teacher, normalize(views[row : row + batch]), depth).half().numpy()
        if row // batch % 50 == 0:
            tokens.flush()
            done.write_text(str(row))
            print(f"teacher {row} of {len(views)}", flush=True)
    done.write_text(str(len(views)))
    return tokens


def arguments_of(depth: int) -> dict[str, int | str]:
    """Return timm's arguments for the student."""
    return {"img_size": SIZE, "depth": depth, "global_pool": "avg"}


def make_student(teacher: nn.Module, depth: int) -> nn.Module:
    """Create the student: the teacher's embedding and first blocks."""
    student = timm.create_model(TEACHER, num_classes=0, **arguments_of(depth))
    own = student.state_dict()
    student.load_state_dict({name: t for name, t in teacher.state_dict().items() if name in own}, strict=False)
    return student


class Rounded(nn.Module):
    """Round a matrix to four bits with a straight-through gradient."""

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded matrix, (rows, columns)."""
        return weight + (rounded(weight) - weight).detach()


def round_matrices(student: nn.Module) -> None:
    """Round every matrix that the file stores in four bits."""
    for layer in student.modules():
        if isinstance(layer, nn.Linear) and packable(layer.weight):
            parametrize.register_parametrization(layer, "weight", Rounded())


def plain_state(student: nn.Module) -> dict[str, Tensor]:
    """Return the unrounded weights by timm's names."""
    return {
        name.replace("parametrizations.weight.original", "weight"): tensor
        for name, tensor in student.state_dict().items()
    }


def batches(count: int, batch: int, seed: int, skipped: int) -> Iterator[np.ndarray]:
    """Yield shuffled rows endlessly, ascending within a batch; the first ``skipped`` batches are left out."""
    step = 0
    while True:
        order = np.random.default_rng([seed, step]).permutation(count)
        for rows in order[: count // batch * batch].reshape(-1, batch):
            if step >= skipped:
                yield np.sort(rows)
            step += 1


def train(
    student: nn.Module, views: np.ndarray, tokens: np.ndarray, work: Path, minutes: float, options: argparse.Namespace
) -> int:
    """Distill for some minutes of processor time; return the number of views seen. The last rows are held out."""
    held = max(options.batch, min(512, len(views) // 20))
    count = len(views) - held
    scale = Scale.of(torch.from_numpy(np.array(tokens[: min(2000, count)])).float())
    optimizer = torch.optim.Adam(student.parameters(), lr=options.lr)
    checkpoint = work / "student.pt"
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"resuming at step {step}", flush=True)
    student.train()
    began, saved = time.process_time() - spent, spent
    for rows in batches(count, options.batch, options.seed, step):
        spent = time.process_time() - began
        share = spent / 60 / minutes
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, share / 0.03) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        loss = distance(student, views[rows], tokens[rows], scale, options.depth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        if spent - saved > SAVE_SECONDS:
            saved = spent
            with torch.no_grad():
                unseen = distance(student, views[count:], tokens[count:], scale, options.depth)
            print(f"{share:4.0%} step {step} loss {loss:.4f} unseen {unseen:.4f}", flush=True)
            state = {"student": student.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
            torch.save(state, work / "student.partial")
            (work / "student.partial").rename(checkpoint)
            save(student, work / "embedded_vit.safetensors", step * options.batch, spent / 60, options)
    return step * options.batch


@dataclass(frozen=True)
class Scale:
    """Standard deviations of tokens, (WIDTH,), and of the means of an image's patch tokens, (WIDTH,)."""

    token: Tensor
    image: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Scale":
        """Compute them from the teacher's tokens (N, TOKENS, WIDTH)."""
        return cls(tokens.std((0, 1)), tokens[:, 1:].mean(1).std(0))


def distance(student: nn.Module, pixels: np.ndarray, tokens: np.ndarray, scale: Scale, depth: int) -> Tensor:
    """Return the smooth L1 distance of tokens and of means of patch tokens, in units of their standard deviations."""
    target = torch.from_numpy(np.array(tokens)).float()
    output = tokens_of(student, normalize(pixels), depth)
    of_tokens = nn.functional.smooth_l1_loss(output / scale.token, target / scale.token)
    means = (output[:, 1:].mean(1) / scale.image, target[:, 1:].mean(1) / scale.image)
    return of_tokens + nn.functional.smooth_l1_loss(*means)


def save(model: nn.Module, path: Path, seen: int, minutes: float, options: argparse.Namespace) -> None:
    """Write the packed weights, with the metadata that rebuilds the model."""
    metadata = {
        "format": "shpeft.backbone/1",
        "architecture": TEACHER,
        "kwargs": json.dumps(arguments_of(options.depth)),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "interpolation": "bicubic",
        "image_size": str(SIZE),
        "description": (
            f"The first {options.depth} blocks of DINOv2 ViT-S/14, four bits a weight, distilled on {seen} unlabelled "
            f"views ({minutes:.0f} min of processor time, seed {options.seed})."
        ),
        "licence": "Apache-2.0",
    }
    safetensors.torch.save_file(pack(plain_state(model)), path, metadata)


def main() -> None:
    """Read the options; views, teacher, student; save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help=f"weights of timm's {TEACHER} for 224 px")
    parser.add_argument("--images", action="append", default=[], metavar="FOLDER:VIEWS", help="may be repeated")
    parser.add_argument("--phantoms", type=int, default=0, help="generated images of each kind")
    parser.add_argument("--work", type=Path, required=True, help="a folder for views, tokens and checkpoints")
    parser.add_argument("--minutes", type=float, default=60, help="processor time for the student")
    parser.add_argument("--depth", type=int, default=6, help="number of the teacher's blocks")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    jobs = jobs_of(options.images, options.phantoms, options.seed)
    print(f"{len(jobs)} views", flush=True)
    views = make_views(jobs, options.work, options.threads)
    teacher = load_teacher(options.teacher)
    tokens = ask_teacher(teacher, views, options.work, options.depth)
    student = make_student(teacher, options.depth)
    round_matrices(student)
    seen = train(student, views, tokens, options.work, options.minutes, options)
    save(student, options.out, seen, options.minutes, options)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

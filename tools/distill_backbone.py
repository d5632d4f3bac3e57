"""Distil a small vision transformer from DINOv2 ViT-S/14, without labels, for the backbone name ``embedded``.

Three steps, each of which goes on where it was stopped:

1. views: crops of images (and drawn phantoms), flipped and tinted at random, 112 px;
2. teacher: what DINOv2's last layer gives for each view, a class token and 64 patch tokens;
3. student: a transformer of the teacher's width with fewer and leaner blocks, which begins as parts of the teacher
   and learns to give the teacher's tokens for the same view.

    python tools/distill_backbone.py --teacher dinov2_vits14_224.safetensors --images photos:1 --images scans/train:4 \
        --phantoms 300 --work distilled --minutes 60 --out small.safetensors
    shpeft finetune --backbone embedded --weights small.safetensors ...
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from shpeft.datasets.phantoms.source import KINDS
from shpeft.images import SUFFIXES, open_image

SIZE, PATCH, WIDTH = 112, 14, 384
TOKENS = 1 + (SIZE // PATCH) ** 2
TEACHER = "vit_small_patch14_dinov2"
ARCHITECTURE = "vit_small_patch16_224"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SAVE_SECONDS = 60
"""Processor time between checkpoints."""

Job = tuple[str, int]
"""A file or ``phantom:KIND``, and the number of the view: 0 shows the whole image."""


def view(job: Job) -> np.ndarray:
    """One view, uint8 (SIZE, SIZE, 3). View 0 is the whole image; later ones are crops, flipped and tinted."""
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
    """All views of all images below ``FOLDER:VIEWS``, and so many phantoms of each kind; shuffled."""
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
    """All views, memory-mapped uint8 (N, SIZE, SIZE, 3)."""
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


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) as a model's input, (B, 3, S, S)."""
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def load_teacher(path: Path) -> nn.Module:
    """DINOv2 ViT-S/14 at SIZE pixels, from a file for 224 px: its position embedding is resampled."""
    model = timm.create_model(TEACHER, img_size=224, num_classes=0)
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)
    model.set_input_size((SIZE, SIZE))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def ask_teacher(teacher: nn.Module, views: np.ndarray, work: Path, batch: int = 32) -> np.ndarray:
    """The teacher's tokens for every view, memory-mapped float16 (N, TOKENS, WIDTH)."""
    path, done = work / "tokens.npy", work / "tokens.done"
    shape = (len(views), TOKENS, WIDTH)
    if not path.exists():
        np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=shape).flush()
    tokens = np.load(path, mmap_mode="r+")
    start = int(done.read_text()) if done.exists() else 0
    for row in range(start, len(views), batch):
        tokens[row : row + batch] = teacher.forward_features(normalised(views[row : row + batch])).half().numpy()
        if row // batch % 50 == 0:
            tokens.flush()
            done.write_text(str(row))
            print(f"teacher {row} of {len(views)}", flush=True)
    done.write_text(str(len(views)))
    return tokens


def make_student(teacher: nn.Module, depth: int, ratio: float) -> nn.Module:
    """A lean transformer made of the teacher's embedding, of some of its blocks, and of its last norm.

    Blocks are taken at even distances. Of a block's hidden units those stay whose weights are largest, and its
    layer scales are multiplied into the projections that they scale.
    """
    kwargs = {"img_size": SIZE, "patch_size": PATCH, "depth": depth, "mlp_ratio": ratio}
    student = timm.create_model(ARCHITECTURE, num_classes=0, **kwargs)
    student.patch_embed.load_state_dict(teacher.patch_embed.state_dict())
    student.norm.load_state_dict(teacher.norm.state_dict())
    with torch.no_grad():
        student.cls_token.copy_(teacher.cls_token)
        student.pos_embed.copy_(teacher.pos_embed)
        for number, block in enumerate(student.blocks):
            _shrink(teacher.blocks[number * len(teacher.blocks) // depth], block)
    return student


def _shrink(source: nn.Module, block: nn.Module) -> None:
    for name in ("norm1", "norm2"):
        getattr(block, name).load_state_dict(getattr(source, name).state_dict())
    block.attn.load_state_dict(source.attn.state_dict())
    fc1, fc2 = source.mlp.fc1, source.mlp.fc2
    best = (fc1.weight.norm(dim=1) * fc2.weight.norm(dim=0)).topk(block.mlp.fc1.out_features).indices.sort().values
    block.mlp.fc1.weight.copy_(fc1.weight[best])
    block.mlp.fc1.bias.copy_(fc1.bias[best])
    block.mlp.fc2.weight.copy_(fc2.weight[:, best])
    block.mlp.fc2.bias.copy_(fc2.bias)
    for layer, scale in ((block.attn.proj, source.ls1.gamma), (block.mlp.fc2, source.ls2.gamma)):
        layer.weight.mul_(scale[:, None])
        layer.bias.mul_(scale)


def batches(count: int, batch: int, seed: int, start: int) -> Iterator[np.ndarray]:
    """Endless shuffled rows, ascending within a batch; ``start`` batches are left out."""
    step = 0
    while True:
        order = np.random.default_rng([seed, step]).permutation(count)
        for rows in order[: count // batch * batch].reshape(-1, batch):
            if step >= start:
                yield np.sort(rows)
            step += 1


def train(
    student: nn.Module, views: np.ndarray, tokens: np.ndarray, work: Path, minutes: float, options: argparse.Namespace
) -> int:
    """Distil for some minutes of processor time; returns how many views were seen. The last rows are not trained on."""
    held = max(options.batch, min(512, len(views) // 20))
    count = len(views) - held
    sample = torch.from_numpy(np.array(tokens[: min(2000, count)])).float()
    mean, std = sample.mean((0, 1)), sample.std((0, 1))
    decay = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}], lr=options.lr
    )
    checkpoint = work / "student.pt"
    step, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
        print(f"going on at step {step}", flush=True)
    student.train()
    start, saved = time.process_time() - spent, spent
    for rows in batches(count, options.batch, options.seed, step):
        spent = time.process_time() - start
        share = spent / 60 / minutes
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, share / 0.03) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        loss = distance(student, views[rows], tokens[rows], mean, std)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        if spent - saved > SAVE_SECONDS:
            saved = spent
            with torch.no_grad():
                unseen = distance(student, views[count:], tokens[count:], mean, std)
            print(f"{share:4.0%} step {step} loss {loss:.4f} unseen {unseen:.4f}", flush=True)
            state = {"student": student.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}
            torch.save(state, work / "student.partial")
            (work / "student.partial").rename(checkpoint)
            save(student, work / "embedded_vit.safetensors", step * options.batch, spent / 60, options)
    return step * options.batch


def distance(student: nn.Module, pixels: np.ndarray, tokens: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
    """Smooth L1 between standardised tokens: the class token counts as much as all patches together."""
    wanted = (torch.from_numpy(np.array(tokens)).float() - mean) / std
    found = (student.forward_features(normalised(pixels)) - mean) / std
    away = nn.functional.smooth_l1_loss(found, wanted, reduction="none").mean(2)
    return (away[:, 0] + away[:, 1:].mean(1)).mean() / 2


def save(model: nn.Module, path: Path, seen: int, minutes: float, options: argparse.Namespace) -> None:
    """Write the weights in half precision, with all that is needed to make the model again."""
    metadata = {
        "format": "shpeft.backbone/1",
        "architecture": ARCHITECTURE,
        "kwargs": json.dumps(
            {"img_size": SIZE, "patch_size": PATCH, "depth": options.depth, "mlp_ratio": options.mlp_ratio}
        ),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "interpolation": "bicubic",
        "image_size": str(SIZE),
        "description": (
            f"Small ViT distilled from DINOv2 ViT-S/14 on {seen} unlabelled views "
            f"({minutes:.0f} min of processor time, seed {options.seed})."
        ),
        "licence": "Apache-2.0",
    }
    weights = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata)


def main() -> None:
    """Read the options; views, teacher, student; save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help=f"weights of timm's {TEACHER} for 224 px")
    parser.add_argument("--images", action="append", default=[], metavar="FOLDER:VIEWS", help="may be repeated")
    parser.add_argument("--phantoms", type=int, default=0, help="drawn images of each kind")
    parser.add_argument("--work", type=Path, required=True, help="a folder for views, tokens and checkpoints")
    parser.add_argument("--minutes", type=float, default=60, help="processor time for the student")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--mlp-ratio", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=5e-4)
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
    tokens = ask_teacher(teacher, views, options.work)
    student = make_student(teacher, options.depth, options.mlp_ratio)
    seen = train(student, views, tokens, options.work, options.minutes, options)
    save(student, options.out, seen, options.minutes, options)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

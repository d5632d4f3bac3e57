"""One training step, ours against the usual ways to fine-tune: time, saved activations, optimizer state, file.

Every arm does the same work on the same batch (forward, cross-entropy, backward, AdamW) and trains the head; the arms
are timed in turns in one process. ``arms.py`` and ``peft_arms.py`` define them, README.md explains the table.
"""

import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from arms import Arm, Builder, Work, bitfit, dense_mask, floor, full, ours, probe
from harness import Timing, arguments, interleaved, publish, table
from peft_arms import PEFT_ARMS, peft
from torch import Tensor

from shpeft.delta.activation_memory import saved_bytes

MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")

ARMS: dict[str, Builder] = {
    "full": full,
    "mask": dense_mask(1e-4),
    **PEFT_ARMS,
    "bitfit": bitfit,
    "probe": probe,
    "floor": floor,
    "ours-0.01": ours(1e-4),
    "ours-0.1": ours(1e-3),
    "ours-1": ours(1e-2),
    "random-0.01": ours(1e-4, score="random"),
    "random-0.1": ours(1e-3, score="random"),
    "random-1": ours(1e-2, score="random"),
    "ours-last3": ours(1e-4, "last:3"),
    "ours-fast": ours(1e-4, "last:3", cached=True),
}
"""The rows, by the name that ``--arms`` takes; a new row only needs an entry here."""

TOLERANCE = 1e-5
"""The largest difference between our gradients and full autograd's that counts as float32 rounding, relative to the
largest entry."""

HEADER = (
    "arm",
    "seconds",
    "× full",
    "× floor",
    "saved for backward",
    "× floor",
    "gradients + AdamW",
    "backbone weights trained",
    "share",
    "file",
)


def state_bytes(arm: Arm) -> int:
    """Return the bytes of the gradients that remain after a step and of the optimizer's state."""
    parameters = {id(p): p for p in (*arm.module.parameters(), *arm.trained())}.values()
    tensors = [p.grad for p in parameters if p.grad is not None]
    tensors += [t for state in arm.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


def file_bytes(arm: Arm) -> int:
    """Return the bytes of the file of a finished training."""
    with tempfile.TemporaryDirectory() as folder:
        arm.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))


def deviations(arms: Iterable[Arm], work: Work) -> dict[str, float]:
    """Return, for each of ours, the largest relative difference of its gradient from full autograd's entries.

    Raises:
        SystemExit: a difference exceeds rounding, so the time would be meaningless.
    """
    ours = [arm for arm in arms if arm.values is not None]
    if not ours:
        return {}
    names = list(dict.fromkeys(name for arm in ours for name in arm.delta.support.indices))
    parameters = work.backbone.parameters
    dense = dict(zip(names, torch.autograd.grad(work.loss(work.backbone), [parameters[n] for n in names]), strict=True))
    differences = {}
    for arm in ours:
        (arm.clear or arm.optimizer.zero_grad)()
        arm.loss().backward()
        expected = torch.cat([dense[n].reshape(-1)[i] for n, i in arm.delta.support.indices.items()])
        differences[arm.title] = float((arm.values.grad - expected).abs().max() / expected.abs().max())
        if not differences[arm.title] <= TOLERANCE:
            raise SystemExit(
                f"{arm.title}: the gradient is {differences[arm.title]:.2g} off; {TOLERANCE:g} is allowed."
            )
    return differences


def checks(arms: Mapping[str, Arm], work: Work) -> str:
    """Verify the arms before they are timed, and describe it in a sentence."""
    with torch.no_grad():
        losses = [float(arm.loss()) for arm in arms.values()]
    spread = max(losses) - min(losses)
    if not spread <= TOLERANCE * max(losses):
        raise SystemExit(f"The arms start from different losses, from {min(losses)} to {max(losses)}.")
    text = f"Checked before timing: every arm starts at loss {losses[0]:.4f} (largest difference {spread:.1g})"
    if differences := deviations(arms.values(), work):
        listed = "; ".join(f"{title} {value:.1g}" for title, value in differences.items())
        text += (
            f"; on this batch our gradients are full autograd's entries (largest difference, of the largest: {listed})"
        )
    return text + "."


def measure(work: Work, names: Sequence[str], repeats: int) -> str:
    """Return the section's text for one model."""
    arms = {name: ARMS[name](work) for name in names if peft is not None or name not in PEFT_ARMS}
    checked = checks(arms, work)
    sizes: dict[str, tuple[int, int, int]] = {}
    for name, arm in arms.items():
        saved = saved_bytes(arm.loss, (*arm.module.parameters(), *arm.module.buffers(), work.images, work.labels))
        arm.step()
        sizes[name] = saved, state_bytes(arm), file_bytes(arm)
    timings = interleaved({name: arm.step for name, arm in arms.items()}, repeats)
    rows = [_row(name, arms, timings, sizes, work) for name in arms]
    size = work.backbone.image_size
    lines = [
        f"{len(work.labels)} images of {size} px, {repeats} turns, medians; evaluation mode; "
        f"{'fused' if work.fused else 'default'} AdamW. {checked}",
        table(HEADER, rows),
        _noise(timings),
    ]
    if missing := [name for name in names if name not in arms]:
        lines.append(f"Rows that need peft are missing ({', '.join(missing)}): pip install 'shpeft[compare]'")
    return "\n\n".join(lines)


def _row(
    name: str,
    arms: Mapping[str, Arm],
    timings: Mapping[str, Timing],
    sizes: Mapping[str, tuple[int, int, int]],
    work: Work,
) -> list[str]:
    def ratio(value: float, other: float | None) -> str:
        return f"{value / other:.2f}" if other else "–"

    seconds = {key: timing.median for key, timing in timings.items()}
    saved, state, file = sizes[name]
    trained = arms[name].moving(work.backbone)
    return [
        arms[name].title,
        f"{seconds[name]:.3f}",
        ratio(seconds[name], seconds.get("full")),
        ratio(seconds[name], seconds.get("floor")),
        readable(saved),
        ratio(saved, sizes["floor"][0] if "floor" in sizes else None),
        readable(state),
        f"{trained:,}",
        f"{100 * trained / work.backbone.weight_count:.3g} %",
        readable(file),
    ]


def _noise(timings: Mapping[str, Timing]) -> str:
    """Describe the spread of the turns of an arm."""
    spreads = []
    for timing in timings.values():
        low, _, high = statistics.quantiles(timing.seconds, n=4) if len(timing.seconds) > 1 else (0.0, 0.0, 0.0)
        spreads.append((high - low) / timing.median)
    return (
        f"Noise: the middle half of an arm's turns spans {100 * statistics.median(spreads):.1f} % of its median "
        f"(median over arms; worst {100 * max(spreads):.1f} %)."
    )


def readable(size: int) -> str:
    """Format bytes in KiB or MiB."""
    return f"{size / 2**10:,.1f} KiB" if size < 2**20 else f"{size / 2**20:,.1f} MiB"


def main() -> None:
    """Measure and print, a section for each model."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="timm names")
    parser.add_argument("--weights", default="random", help="random, pretrained, or a .safetensors file of one model")
    parser.add_argument("--data", default="phantom:ultrasound", help="images for scores and for the step")
    parser.add_argument("--image-size", type=int, help="side in pixels; by default the model's")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument(
        "--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM", help=", ".join(ARMS)
    )
    parser.add_argument("--fused", action="store_true", help="PyTorch's fused AdamW for every arm")
    options = parser.parse_args()
    for model in options.models:
        work = Work.of(
            model,
            options.batch,
            weights=options.weights,
            source=options.data,
            image_size=options.image_size,
            fused=options.fused,
        )
        weights = options.weights if options.weights in ("random", "pretrained") else "pretrained"
        section = f"One training step, {model} ({weights}), batch {options.batch}"
        section += ", fused AdamW" if options.fused else ""
        publish(section, measure(work, options.arms, options.repeats), options.write)


if __name__ == "__main__":
    main()

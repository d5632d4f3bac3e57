"""Switch one loaded backbone from one task to another: with deltas, whole state dicts, and LoRA.

Every arm switches between two random tasks with heads of their own. A switch is timed right after others (with its
weights still in the processor's cache) and right after a forward pass of one image (with its weights evicted).
Finally, the pretrained weights are restored and compared bit for bit.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from harness import arguments, interleaved, publish, table
from torch import Tensor, nn

from shpeft.backbones import Backbone, create_backbone
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.switchboard import Switchboard
from shpeft.importance.scores import Scores
from shpeft.linear_probe import Head
from shpeft.selection.top_k import select

SHARES = (1e-4, 1e-3, 1e-2)
RANK, SCALE = 8, 2.0


@dataclass
class Arm:
    """One way to switch.

    Attributes:
        to: switch to task 0 or 1.
        restore: restore the pretrained weights.
        module: the network.
        state: return its current tensors, by the names of the timm model.
    """

    to: Callable[[int], object]
    restore: Callable[[], object]
    module: nn.Module
    state: Callable[[], Mapping[str, Tensor]]


def random_head(backbone: Backbone) -> Head:
    """Draw a head for the backbone's classes."""
    return Head(torch.randn_like(backbone.head.weight), torch.randn_like(backbone.head.bias))


def task_delta(backbone: Backbone, share: float, seed: int) -> SparseDelta:
    """Draw a delta of random values on random weights of the blocks' matrices, with a random head."""
    generator, infos = torch.Generator().manual_seed(seed), backbone.weight_infos("matrices")
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    support = select(Scores("random", values, infos, backbone.weight_count), share)
    delta = SparseDelta.zeros(backbone, support, random_head(backbone))
    delta.values.normal_(std=0.01)
    return delta


def switchboard(pristine: Backbone, share: float, stack: ExitStack) -> Arm:
    """Build our switch, after checking it against deltas applied to the pristine backbone."""
    backbone = pristine.copy()
    deltas = {task: task_delta(pristine, share, int(task)) for task in "01"}
    board = stack.enter_context(Switchboard(backbone, deltas))
    for task in "010":
        board.switch(task)
        with deltas[task].applied(pristine):
            changed = differing(backbone.module.state_dict(), pristine.module.state_dict())
        if changed:
            raise AssertionError(f"a switch differs from applying the delta in {changed} weights")
    board.switch(None)
    return Arm(lambda i: board.switch(str(i)), lambda: board.switch(None), backbone.module, backbone.module.state_dict)


def state_dicts(pristine: Backbone) -> Arm:
    """Build a switch that loads one of two whole fine-tuned copies from memory."""
    module = pristine.copy().module
    base = pristine.module.state_dict()
    tuned = [{name: tensor + 1e-3 * torch.randn_like(tensor) for name, tensor in base.items()} for _ in range(2)]
    return Arm(
        lambda i: module.load_state_dict(tuned[i]), lambda: module.load_state_dict(base), module, module.state_dict
    )


def merged_lora(pristine: Backbone) -> Arm:
    """Build a switch between two LoRAs on qkv: subtract the current product, add the next one."""
    backbone = pristine.copy()
    weights = [p.detach() for name, p in backbone.parameters.items() if name.endswith("qkv.weight")]
    tasks = [
        [(0.01 * torch.randn(len(w), RANK), 0.01 * torch.randn(RANK, w.shape[1])) for w in weights] for _ in range(2)
    ]
    heads, own = [random_head(backbone) for _ in tasks], Head.of(backbone)
    present: list[int] = []

    def restore() -> None:
        for i in present:
            for w, (b, a) in zip(weights, tasks[i], strict=True):
                w.addmm_(b, a, alpha=-SCALE)
        present.clear()
        own.write(backbone)

    def to(i: int) -> None:
        restore()
        for w, (b, a) in zip(weights, tasks[i], strict=True):
            w.addmm_(b, a, alpha=SCALE)
        heads[i].write(backbone)
        present.append(i)

    return Arm(to, restore, backbone.module, backbone.module.state_dict)


def peft_lora(pristine: Backbone) -> Arm:
    """Build a switch by Hugging Face's peft between two LoRAs beside the qkv layers, never merged."""
    import peft

    settings: dict[str, Any] = {"r": RANK, "lora_alpha": RANK * SCALE, "init_lora_weights": False}
    config = peft.LoraConfig(**settings, target_modules=["qkv"], modules_to_save=[pristine.head_name])
    model = peft.get_peft_model(pristine.copy().module, config, adapter_name="0")
    model.add_adapter("1", config)
    model.eval()

    def state() -> dict[str, Tensor]:
        tensors = {
            name.replace(".base_layer.", ".").replace(".original_module.", "."): tensor
            for name, tensor in model.get_base_model().state_dict().items()
        }
        return {name: tensors[name] for name in pristine.module.state_dict()}

    return Arm(lambda i: model.set_adapter(str(i)), lambda: None, model, state)


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> int:
    """Count the entries that differ in any bit."""
    return sum(int((a[name].view(torch.int32) != b[name].view(torch.int32)).sum()) for name in b)


@torch.inference_mode()
def after_forward(arms: Mapping[str, Arm], image: Tensor, repeats: int) -> dict[str, float]:
    """Return the median seconds of a switch after a forward pass, with the arms in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(2 * repeats):
        for name, arm in arms.items():
            arm.module(image)
            began = time.perf_counter()
            arm.to(turn % 2)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


@torch.no_grad()
def main() -> None:
    """Measure, check and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_base_patch16_224", help="a timm vision transformer with qkv layers")
    parser.add_argument("--switches", type=int, default=20, help="switches per turn; an even number")
    options = parser.parse_args()
    torch.manual_seed(0)
    pristine = create_backbone(options.backbone, classes=("a", "b"), weights="random")
    base = pristine.module.state_dict()

    with ExitStack() as stack:
        arms = {f"delta, {100 * share:g} % of the weights": switchboard(pristine, share, stack) for share in SHARES}
        arms["whole state dict from memory"] = state_dicts(pristine)
        arms[f"LoRA r{RANK} on qkv, unmerged and merged"] = merged_lora(pristine)
        beside = f"LoRA r{RANK} on qkv beside the weights (peft `set_adapter`)"
        if find_spec("peft"):
            arms[beside] = peft_lora(pristine)

        def turn(arm: Arm) -> None:
            for i in range(options.switches):
                arm.to(i % 2)

        timings = interleaved({name: lambda arm=arm: turn(arm) for name, arm in arms.items()}, options.repeats)
        warm = {name: timing.median / options.switches for name, timing in timings.items()}
        cold = after_forward(arms, torch.randn(1, *pristine.input_shape), options.repeats)
        changed = {}
        for name, arm in arms.items():
            arm.restore()
            changed[name] = differing(arm.state(), base)
    first = next(iter(arms))
    rows: list[list[object]] = [
        [
            name,
            *(f"{1e3 * times[name]:.2f} ({times[name] / times[first]:.1f}×)" for times in (warm, cold)),
            f"{changed[name]:,} weights differ" if changed[name] else "same bits",
        ]
        for name in arms
    ]
    if beside not in arms:
        print("peft is not installed: its row is missing.", file=sys.stderr)
        rows.append([beside, "not measured: peft is not installed", "", ""])
    header = [
        "switch between two tasks",
        "ms, after another switch",
        "ms, after a forward pass",
        "pretrained weights after",
    ]
    text = (
        f"{options.backbone}, {pristine.weight_count:,} weights; every switch changes the head, too. Medians of "
        f"{options.repeats} turns of {options.switches} switches, and of {2 * options.repeats} switches after a "
        "forward pass of one image. Each delta's switch gives the same bits as applying the delta to a new copy. "
        "Adapters beside the weights also cost their products in every forward pass, which is not counted here."
    )
    publish("Switching between deltas", f"{text}\n\n{table(header, rows)}", options.write)


if __name__ == "__main__":
    main()

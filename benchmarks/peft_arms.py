"""Tuners of Hugging Face's peft as arms of the step benchmark; none where peft is not installed."""

from collections.abc import Callable
from typing import Any

from arms import Arm, Builder, Work, percent
from torch import nn

from shpeft.backbones import Backbone

try:
    import peft
except ImportError:  # its rows are missing, and the benchmark says so
    peft = None


def linears(backbone: Backbone, ending: str = "") -> list[str]:
    """Name the linear layers of blocks whose names have an ending."""
    names = [info.name.removesuffix(".weight") for info in backbone.weight_infos("matrices")]
    return [n for n in names if n.endswith(ending) and type(backbone.module.get_submodule(n)) is nn.Linear]


def with_peft(title: str, config: Callable[[Backbone], Any]) -> Builder:
    """Build an arm from a peft configuration, with the head as its ``modules_to_save``."""

    def build(work: Work) -> Arm:
        backbone = work.backbone.copy()
        module = peft.get_peft_model(backbone.module, config(backbone)).eval()
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        head = {name: p for name, p in trained.items() if ".modules_to_save." in name}
        body = [p for name, p in trained.items() if name not in head]
        optimizer = work.optimizer(body, head.values())
        return Arm(title, module, lambda: work.loss(module), optimizer, lambda folder: module.save_pretrained(folder))

    return build


def lora(ending: str, title: str) -> Builder:
    """Build peft's LoRA of rank 8 without dropout."""
    return with_peft(
        f"LoRA r8 on {title} (peft)",
        lambda b: peft.LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=linears(b, ending), modules_to_save=[b.head_name]
        ),
    )


def shira(ending: str, title: str) -> Builder:
    """Build peft's SHiRA with a random mask and the fewest weights: r = 1, which is in + out for each layer."""
    return with_peft(
        f"SHiRA r1 on {title} (peft)",
        lambda b: peft.ShiraConfig(
            r=1, random_seed=0, target_modules=linears(b, ending), modules_to_save=[b.head_name]
        ),
    )


def supertuning(share: float) -> Builder:
    """Build peft's Super-Tuning: the largest weights of each block matrix, ``share`` of all weights in total."""

    def config(backbone: Backbone) -> Any:
        targets = linears(backbone)
        sizes = [backbone.parameters[f"{name}.weight"].numel() for name in targets]
        # At least one weight in every layer.
        density = max(share * backbone.weight_count / sum(sizes), 1.001 / min(sizes))
        return peft.SupertuningConfig(
            sparsity=1 - density, target_modules=targets, modules_to_save=[backbone.head_name]
        )

    return with_peft(f"Super-Tuning, {percent(share)} (peft)", config)


PEFT_ARMS: dict[str, Builder] = {
    "lora-qkv": lora("qkv", "qkv"),
    "lora-all": lora("", "all linears"),
    "shira-qkv": shira("qkv", "qkv"),
    "shira-all": shira("", "all linears"),
    "supertuning": supertuning(1e-4),
}
"""SHiRA and Super-Tuning are the tuners of peft 0.21 that train selected entries of weights."""

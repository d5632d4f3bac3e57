"""Hugging Face's tuners as arms of the step benchmark; without peft there are none."""

from collections.abc import Callable
from typing import Any

from arms import Arm, Builder, Work, percent
from torch import nn

from shpeft.backbones import Backbone

try:
    import peft
except ImportError:  # its rows are left out, and the benchmark says so
    peft = None


def linears(backbone: Backbone, ending: str = "") -> list[str]:
    """The linear layers inside blocks whose name ends so."""
    names = [info.name.removesuffix(".weight") for info in backbone.weight_infos("matrices")]
    return [n for n in names if n.endswith(ending) and type(backbone.module.get_submodule(n)) is nn.Linear]


def with_peft(title: str, config: Callable[[Backbone], Any]) -> Builder:
    """A tuner of Hugging Face's peft, with the head as its ``modules_to_save``."""

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
    """peft's LoRA of rank 8, without dropout."""
    return with_peft(
        f"LoRA r8 on {title} (peft)",
        lambda b: peft.LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=linears(b, ending), modules_to_save=[b.head_name]
        ),
    )


def shira(ending: str, title: str) -> Builder:
    """peft's SHiRA, random mask, at the fewest weights that it allows: r = 1, which is in + out for each layer."""
    return with_peft(
        f"SHiRA r1 on {title} (peft)",
        lambda b: peft.ShiraConfig(
            r=1, random_seed=0, target_modules=linears(b, ending), modules_to_save=[b.head_name]
        ),
    )


def supertuning(share: float) -> Builder:
    """peft's Super-Tuning: the largest weights of each block matrix, ``share`` of all backbone weights together."""

    def config(backbone: Backbone) -> Any:
        targets = linears(backbone)
        sizes = [backbone.parameters[f"{name}.weight"].numel() for name in targets]
        density = max(share * backbone.count / sum(sizes), 1.001 / min(sizes))  # it wants a weight in every layer
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
"""SHiRA and Super-Tuning are all of peft 0.21's tuners that train chosen entries of weights."""

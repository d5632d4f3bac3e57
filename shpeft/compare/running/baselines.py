"""Baselines trained densely on a copy of the backbone: all weights, those of some kinds of layer, LoRA and VeRA."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.compare.arm import Arm, Training
from shpeft.compare.running.task import Task
from shpeft.datasets import Dataset
from shpeft.equations import interpolate
from shpeft.errors import MissingExtra, SelectionError
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import Head
from shpeft.support.progress import Progress
from shpeft.support.seeding import seeded
from shpeft.training.batches import TrainingBatches
from shpeft.training.loop import EpochReport, run_epochs
from shpeft.training.loss import TrainingLoss


class DenseTuner:
    """Parameters of a backbone in dense training, its head included.

    Attributes:
        backbone: a copy that belongs to this object alone.
        body: the trained parameters without the head's, by name.
        trained: all parameters that the optimizer sees, by name.
        below: names of original parameters; no weight below them changes.
    """

    def __init__(self, backbone: Backbone, body: dict[str, nn.Parameter], below: Iterable[str]):
        self.backbone, self.body, self.below = backbone, body, list(below)
        head = dict(backbone.head.named_parameters(prefix=backbone.head_name))
        self.trained = body | head
        backbone.module.requires_grad_(False)
        for p in self.trained.values():
            p.requires_grad_(True)
        self._best: list[Tensor] = []

    @property
    def count(self) -> int:
        """Number of trained weights without the head's."""
        return sum(p.numel() for p in self.body.values())

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer trains."""
        return list(self.trained.values())

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for p in self.trained.values():
            p.grad = None

    def write(self) -> None:
        """Do nothing: the optimizer changes the model in place."""

    @torch.no_grad()
    def load(self, tensors: Sequence[Tensor]) -> None:
        """Replace the parameters."""
        for p, tensor in zip(self.parameters(), tensors, strict=True):
            p.copy_(tensor)

    def finetune(
        self,
        data: Dataset,
        forward_pass: ForwardPass,
        lr: float,
        settings: Training,
        seed: int,
        progress: Progress,
        averaged: int = 0,
    ) -> Iterator[EpochReport]:
        """Train with the loop and the optimizer that train deltas; yield its reports."""
        head = list(self.backbone.head.parameters())
        optimizer = torch.optim.AdamW(
            [
                {"params": list(self.body.values()), "lr": lr, "weight_decay": settings.weight_decay},
                {"params": head, "lr": settings.head_lr, "weight_decay": 0.0},
            ],
            eps=settings.eps,
        )
        for report, evaluated, _ in run_epochs(
            self,
            optimizer,
            forward_pass,
            data,
            batches=TrainingBatches(
                data,
                batch_size=settings.batch_size,
                augment=settings.augment,
                modality=settings.modality,
                mixup=settings.mixup,
                balance=settings.balance,
                seed=seed,
            ),
            loss=TrainingLoss.of(data.train, settings.balance, settings.label_smoothing),
            epochs=settings.epochs,
            warmup=settings.warmup,
            averaged=averaged,
            keep_start=settings.keep_start,
            progress=progress,
        ):
            if report.best:
                self._best = evaluated
            yield report

    @torch.no_grad()
    def interpolate(self, base: Backbone, head: Head, alpha: float) -> None:
        """Replace θ by θ0 + α·(θ − θ0), of the backbone's weights at the start and of the head there."""
        for name, p in self.body.items():
            p.copy_(interpolate(base.parameters[name].detach().to(p), p, alpha))
        for p, initial in zip(self.backbone.head.parameters(), (head.weight, head.bias), strict=True):
            p.copy_(interpolate(initial.to(p), p, alpha))

    def keep_best(self) -> None:
        """Restore the weights of the best epoch."""
        self.load(self._best)
        self.zero_grad()
        self._best = []


class DenseKind(NamedTuple):
    """The parameters of the backbone that a dense kind of arm trains.

    Attributes:
        title: of the parameters, in words.
        trains: whether a parameter is one of them, by its name and the module that holds it.
    """

    title: str
    trains: Callable[[str, nn.Module], bool]


LAYER_SCALE = re.compile(r"(?:.*\.)?(?:gamma(?:_?\d)?|ls\d)")
"""timm's names of LayerScale's factors (Touvron et al., 2021): ``ls1.gamma``, in some models ``gamma_1`` or ``ls1``."""

DENSE_KINDS = {
    "full": DenseKind("weights", lambda *_: True),
    "bitfit": DenseKind("biases", lambda name, _: name.endswith("bias")),  # Ben Zaken et al., 2022
    "ln-tune": DenseKind("weights and biases of LayerNorm", lambda _, module: isinstance(module, nn.LayerNorm)),
    "layerscale": DenseKind("factors of LayerScale", lambda name, _: bool(LAYER_SCALE.fullmatch(name))),
}
"""Dense kinds of arm that add no parameters; LN-Tune is of Qi et al., 2022 (arXiv 2211.08682)."""


HEAD_STD = 0.02
"""Standard deviation of the weights of a random head, as timm initializes those of vision transformers."""


def make_tuner(arm: Arm, task: Task, seed: int) -> DenseTuner:
    """Copy a task's backbone, with the arm's initial head, and prepare it for an arm of a dense kind.

    Raises:
        SelectionError: the backbone has no parameters of this kind in the arm's scope.
        MissingExtra: peft is not installed.
    """
    backbone = task.backbone.copy()
    if arm.initial_head == "random":
        with seeded(seed), torch.no_grad():
            nn.init.trunc_normal_(backbone.head.weight, std=HEAD_STD)
            nn.init.zeros_(backbone.head.bias)
    else:
        task.probe.write(backbone)
    if arm.kind in ("lora", "vera"):
        return _adapter(arm, backbone, seed)
    kind, eligible = DENSE_KINDS[arm.kind], [info.name for info in backbone.weight_infos(arm.eligible)]
    names = [name for name in eligible if kind.trains(name, backbone.module.get_submodule(name.rpartition(".")[0]))]
    if not names:
        raise SelectionError(
            f"An arm of kind {arm.kind} trains the {kind.title}, and {backbone.name} has none in the scope "
            f"{arm.eligible!r}. Leave the arm out, or choose another backbone or scope."
        )
    return DenseTuner(backbone, {name: backbone.parameters[name] for name in names}, names)


def _adapter(arm: Arm, backbone: Backbone, seed: int) -> DenseTuner:
    """Prepare LoRA or VeRA by Hugging Face's peft: linear layers of blocks, no dropout.

    LoRA's alpha is twice the rank. VeRA (Kopiczko et al., 2024) trains two vectors a layer, of the rank and of the
    outputs, between random matrices that all layers share and that follow from the seed.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtra(
            f"Arms of kind {arm.kind} need the package peft, which is not installed. Install it: "
            "pip install 'shpeft[compare]'"
        ) from None
    weights = [info.name for info in backbone.weight_infos(arm.scope or "matrices")]
    layers = [name.removesuffix(".weight") for name in weights]
    layers = [name for name in layers if type(backbone.module.get_submodule(name)) is nn.Linear]
    layers = [name for name in layers if arm.targets == "all" or name.endswith(arm.targets)]
    with seeded(seed):
        if arm.kind == "lora":
            lora = peft.LoraConfig(r=arm.rank, lora_alpha=2 * arm.rank, lora_dropout=0.0, target_modules=layers)
            peft.inject_adapter_in_model(lora, backbone.module)
        else:  # it changes the module in place, too, and its layers hold the matrices that they share
            vera = peft.VeraConfig(r=arm.rank, projection_prng_key=seed, vera_dropout=0.0, target_modules=layers)
            peft.get_peft_model(backbone.module, vera)
    trained = {"lora": ".lora_", "vera": ".vera_lambda_"}[arm.kind]
    body = {name: p for name, p in backbone.module.named_parameters() if trained in name}
    backbone.module.eval()
    return DenseTuner(backbone, body, [f"{name}.weight" for name in layers])

"""What others do: all weights, all biases, or low-rank updates, trained with their whole gradients on a copy."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.compare.plan import Arm, Training
from shpeft.compare.tasks import Task
from shpeft.datasets import Dataset
from shpeft.errors import MissingExtra
from shpeft.feed import Feed
from shpeft.progress import Progress
from shpeft.seeding import seeded
from shpeft.training import EpochReport, run_epochs


class Dense:
    """Parameters of a backbone in dense training, its head among them.

    Attributes:
        backbone: belongs to this object alone.
        trained: all that the optimizer sees, by name.
        below: names of original parameters such that nothing below them changes.
    """

    def __init__(self, backbone: Backbone, body: dict[str, nn.Parameter], below: Iterable[str]):
        self.backbone, self.body, self.below = backbone, body, list(below)
        head = dict(backbone.head.named_parameters(prefix=backbone.head_name))
        self.trained = body | head
        backbone.module.requires_grad_(False)
        for p in self.trained.values():
            p.requires_grad_(True)
        self._best: dict[str, Tensor] = {}

    @property
    def count(self) -> int:
        """How many weights are trained besides the head's."""
        return sum(p.numel() for p in self.body.values())

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for p in self.trained.values():
            p.grad = None

    def write(self) -> None:
        """The optimizer moves the model itself."""

    def finetune(
        self, data: Dataset, feed: Feed, lr: float, settings: Training, seed: int, progress: Progress
    ) -> Iterator[EpochReport]:
        """The loop that deltas are trained in, with the same optimizer."""
        head = list(self.backbone.head.parameters())
        optimizer = torch.optim.AdamW(
            [
                {"params": list(self.body.values()), "lr": lr, "weight_decay": settings.weight_decay},
                {"params": head, "lr": settings.head_lr, "weight_decay": 0.0},
            ],
            eps=settings.eps,
        )
        for report in run_epochs(
            self,
            optimizer,
            feed,
            data,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            augment=settings.augment,
            seed=seed,
            progress=progress,
        ):
            if report.best:
                self._best = {name: p.detach().clone() for name, p in self.trained.items()}
            yield report

    @torch.no_grad()
    def keep_best(self) -> None:
        """Go back to the best epoch."""
        for name, p in self.trained.items():
            p.copy_(self._best[name])
            p.grad = None
        self._best = {}


def tuner(arm: Arm, task: Task, seed: int) -> Dense:
    """A copy of a task's backbone, its head the linear probe, ready for what an arm trains."""
    backbone = task.backbone.copy()
    task.probe.write(backbone)
    if arm.kind == "lora":
        return _lora(arm, backbone, seed)
    names = [info.name for info in backbone.weight_infos(arm.eligible)]
    if arm.kind == "bitfit":
        names = [name for name in names if name.endswith("bias")]
    return Dense(backbone, {name: backbone.parameters[name] for name in names}, names)


def _lora(arm: Arm, backbone: Backbone, seed: int) -> Dense:
    """Hugging Face's LoRA, without dropout and with alpha twice the rank, on linear layers inside blocks."""
    try:
        import peft
    except ImportError:
        raise MissingExtra(
            "LoRA is Hugging Face's peft, which is not installed. Install it with: pip install 'shpeft[compare]'"
        ) from None
    weights = [info.name for info in backbone.weight_infos(arm.scope or "matrices")]
    layers = [name.removesuffix(".weight") for name in weights]
    layers = [name for name in layers if type(backbone.module.get_submodule(name)) is nn.Linear]
    layers = [name for name in layers if arm.targets == "all" or name.endswith(arm.targets)]
    config = peft.LoraConfig(r=arm.rank, lora_alpha=2 * arm.rank, lora_dropout=0.0, target_modules=layers)
    with seeded(seed):
        peft.inject_adapter_in_model(config, backbone.module)
    body = {name: p for name, p in backbone.module.named_parameters() if ".lora_" in name}
    backbone.module.eval()
    return Dense(backbone, body, [f"{name}.weight" for name in layers])

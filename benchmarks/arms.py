"""The arms of the step benchmark: one model trained in every usual way, each on its own copy, from the same start.

Every arm trains the head (linear classifier) with AdamW, and besides it what its name says. An arm is a function from
the shared ``Work`` to an ``Arm``; those of Hugging Face's peft are in ``peft_arms.py``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shpeft import create_backbone, load_dataset
from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.delta import SparseDelta
from shpeft.deltafile import save_delta
from shpeft.feed import Feed
from shpeft.importance import Scores, estimate_importance
from shpeft.prefix import Cut, cut_below
from shpeft.probe import Head
from shpeft.selection import select
from shpeft.trainable import Trainable

LR, WEIGHT_DECAY = 1e-5, 1e-4
"""Neither changes the time of a step. The rate is low so that every arm stays near its start while it is timed."""


@dataclass(frozen=True)
class Work:
    """What every arm has in common.

    Attributes:
        backbone: the model to start from; no arm touches it.
        images: (B, 3, S, S), normalised.
        labels: (B,) class numbers.
        train: the images that importance is estimated on.
        fused: PyTorch's one-kernel AdamW for every arm, instead of its default.
        scores: what was estimated, by score and scope.
    """

    backbone: Backbone
    images: Tensor
    labels: Tensor
    train: Split
    fused: bool = False
    scores: dict[tuple[str, str], Scores] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: str,
        batch: int,
        *,
        weights: str = "random",
        source: str = "phantom:ultrasound",
        image_size: int | None = None,
        fused: bool = False,
    ) -> "Work":
        """A timm model and the first images of a dataset.

        Values do not change the time of a step, but which weights are chosen does, and with it the columns of a layer
        that a step needs: with ``weights`` random, choices are more scattered than those of a pretrained model.
        """
        train = load_dataset(source).train
        backbone = create_backbone(model, classes=train.classes, weights=weights, image_size=image_size)
        images, labels = next(iter(Feed(backbone).batches(train, batch)))
        return cls(backbone, images, labels, train, fused)

    def delta(self, backbone: Backbone, share: float, scope: str = "matrices", score: str = "hybrid") -> SparseDelta:
        """A delta at zero on the weights that a score chooses: ``share`` of all backbone weights."""
        key = score, scope
        if key not in self.scores:
            self.scores[key] = estimate_importance(self.backbone, self.train, score, scope=scope)
        return SparseDelta.zeros(backbone, select(self.scores[key], share))

    def loss(self, model: Callable[[Tensor], Tensor]) -> Tensor:
        """Cross-entropy on the batch."""
        return cross_entropy(model(self.images), self.labels)

    def optimizer(
        self, body: Iterable[Tensor], head: Iterable[Tensor], weight_decay: float = WEIGHT_DECAY
    ) -> torch.optim.AdamW:
        """AdamW with the two groups of ``shpeft.training``."""
        groups = [
            {"params": list(body), "weight_decay": weight_decay},
            {"params": list(head), "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=LR, fused=self.fused or None)


@dataclass
class Arm:
    """One way to train.

    Attributes:
        title: its row in the table.
        module: what holds the parameters and buffers.
        loss: forward and cross-entropy.
        save: writes what one would keep after training, as ``.safetensors``, into a folder.
        before, after: what has to happen just before and just after the optimizer's step.
        clear: clears the gradients; None: the optimizer's own way.
        delta: which weights move, where only chosen ones do; None: all that the optimizer sees.
        values: of ours, the trained vector.
    """

    title: str
    module: nn.Module
    loss: Callable[[], Tensor]
    optimizer: torch.optim.AdamW
    save: Callable[[Path], object]
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    clear: Callable[[], object] | None = None
    delta: SparseDelta | None = None
    values: Tensor | None = None

    def step(self) -> None:
        """Forward, cross-entropy, backward, AdamW: what is timed."""
        (self.clear or self.optimizer.zero_grad)()
        self.loss().backward()
        self.before()
        self.optimizer.step()
        self.after()

    def trained(self) -> list[Tensor]:
        """What the optimizer moves, the head included."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def moving(self, backbone: Backbone) -> int:
        """How many numbers move besides the head's."""
        return self.delta.k if self.delta else sum(p.numel() for p in self.trained()) - backbone.head_count


Builder = Callable[[Work], Arm]


def _plain(title: str, work: Work, backbone: Backbone, names: Iterable[str], **more: Any) -> Arm:
    """Dense training of the named parameters and the head."""
    chosen = {name: backbone.parameters[name] for name in names}
    head = dict(backbone.head.named_parameters(prefix=backbone.head_name))
    backbone.module.requires_grad_(False)
    for p in (*chosen.values(), *head.values()):
        p.requires_grad_(True)
    arm = Arm(
        title,
        backbone.module,
        lambda: work.loss(backbone),
        work.optimizer(chosen.values(), head.values()),
        lambda folder: safetensors.torch.save_file({**chosen, **head}, folder / "weights.safetensors"),
    )
    return replace(arm, **more)


def full(work: Work) -> Arm:
    """Full fine-tuning: every weight."""
    backbone = work.backbone.copy()
    return _plain("full fine-tuning", work, backbone, [info.name for info in backbone.weight_infos()])


def bitfit(work: Work) -> Arm:
    """All biases of the backbone, those of norms and of the patch embedding too."""
    backbone = work.backbone.copy()
    names = [info.name for info in backbone.weight_infos() if info.name.endswith("bias")]
    return _plain("BitFit (all biases)", work, backbone, names)


def probe(work: Work) -> Arm:
    """Linear probe: the frozen backbone without a graph, the head alone with gradients. No features are cached."""
    backbone = work.backbone.copy()

    def loss() -> Tensor:
        with torch.no_grad():
            features = backbone.features(work.images)
        return cross_entropy(backbone.head(features), work.labels)

    return _plain("linear probe (head alone)", work, backbone, (), loss=loss)


def floor(work: Work) -> Arm:
    """The frozen model with gradients of activations alone: what no exact method of the same depth can go below.

    Ours selects in every block, the first block's qkv included, and a weight's gradient needs the gradient of its
    layer's *output*. So the floor's gradients begin at the output of that first selectable layer: nothing below it
    (patch embedding, first norm, the product with that layer's weight) is in the graph, as nothing is in ours. Starting
    at the block's input instead would add one norm and one matrix product to the floor, and flatter ours.
    """
    backbone = work.backbone.copy()
    first = backbone.weight_infos("matrices")[0].name.removesuffix(".weight")
    arm = _plain("floor (activation gradients)", work, backbone, ())
    backbone.module.get_submodule(first).register_forward_hook(lambda _, args, y: y.requires_grad_())
    return arm


def dense_mask(share: float) -> Builder:
    """The published way: every dense gradient, multiplied by a 0/1 mask, before a dense AdamW step.

    Its weight decay is 0, or AdamW would move what the mask holds.
    """

    def build(work: Work) -> Arm:
        backbone = work.backbone.copy()
        delta = work.delta(backbone, share)
        parameters = {info.name: backbone.parameters[info.name] for info in backbone.weight_infos()}
        masks = {name: torch.zeros_like(p) for name, p in parameters.items()}
        base = {}
        for name, index in delta.support.indices.items():
            masks[name].view(-1)[index] = 1
            base[name] = parameters[name].detach().reshape(-1)[index]

        @torch.no_grad()
        def mask() -> None:
            for name, p in parameters.items():
                assert p.grad is not None
                p.grad.mul_(masks[name])

        def save(folder: Path) -> None:  # what moved is sparse, and can be kept so
            moved = [parameters[n].detach().reshape(-1)[i] - base[n] for n, i in delta.support.indices.items()]
            kept = replace(delta, values=torch.cat(moved), head=Head.of(backbone))
            save_delta(kept, folder / "delta.safetensors")

        optimizer = work.optimizer(parameters.values(), backbone.head.parameters(), weight_decay=0.0)
        title = f"dense mask, {percent(share)}"
        return _plain(title, work, backbone, parameters, optimizer=optimizer, before=mask, save=save, delta=delta)

    return build


def ours(share: float, scope: str = "matrices", score: str = "hybrid", cached: bool = False) -> Builder:
    """shpeft: exact gradients of the selected weights and nothing dense.

    Args:
        score: what chooses the weights. ``random`` is the slowest choice: of nearly every layer it needs most columns.
        cached: the features below the earliest selected block are there already, as after the first epoch of a run.
    """

    def build(work: Work) -> Arm:
        backbone = work.backbone.copy()
        delta = work.delta(backbone, share, scope, score)
        loss = partial(work.loss, backbone)
        if cached:
            cut = cut_below(backbone, delta.support.indices)
            assert cut is not None
            with torch.no_grad():
                features = cut.encode(work.images)
            loss = partial(_resumed, cut, features, work.labels)
        trainable = Trainable(backbone, delta)
        trainable.__enter__()  # never left: this copy of the backbone lives and dies with the arm

        def save(folder: Path) -> None:
            values, head = trainable.snapshot()
            save_delta(replace(delta, values=values, head=head), folder / "delta.safetensors")

        return Arm(
            f"ours, {percent(share)}"
            + (f" in the {scope.replace(':', ' ')} blocks" if scope != "matrices" else "")
            + (" at random" if score == "random" else "")
            + (", prefix cached" if cached else ""),
            backbone.module,
            loss,
            work.optimizer([trainable.values], trainable.head),
            save,
            after=trainable.write,
            clear=trainable.zero_grad,
            delta=delta,
            values=trainable.values,
        )

    return build


def _resumed(cut: Cut, features: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(cut.resume(features), labels)


def percent(share: float) -> str:
    """A share in words: 0.0001 is 0.01 %."""
    return f"{100 * share:.3g} %"

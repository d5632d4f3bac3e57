"""The arms of the step benchmark: one model trained in each of the usual ways, each on its own copy.

Every arm trains the head (linear classifier) with AdamW, and what its name says. An arm is a function from the shared
``Work`` to an ``Arm``; those of Hugging Face's peft are in ``peft_arms.py``.
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
from shpeft.delta.file import save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import BackboneSplit, split_below
from shpeft.importance.scores import Scores, estimate_importance
from shpeft.linear_probe import Head
from shpeft.selection.top_k import select

LR, WEIGHT_DECAY = 1e-5, 1e-4
"""Neither changes the time of a step. The low rate keeps every arm near its initial weights while it is timed."""


@dataclass(frozen=True)
class Work:
    """What all arms share.

    Attributes:
        backbone: the pretrained model; every arm copies it.
        images: (B, 3, S, S), normalized.
        labels: (B,) class numbers.
        train: the images that importance is estimated on.
        fused: PyTorch's one-kernel AdamW for every arm, instead of its default.
        scores: estimated scores, by name and scope.
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
        """Create a timm model and read the first images of a dataset.

        The values of weights do not change the time of a step, but the selected weights do, as they decide which
        columns of a layer's input a step needs: with random ``weights`` the selection is more scattered.
        """
        train = load_dataset(source).train
        backbone = create_backbone(model, classes=train.classes, weights=weights, image_size=image_size)
        images, labels = next(iter(ForwardPass(backbone).batches(train, batch)))
        return cls(backbone, images, labels, train, fused)

    def delta(self, backbone: Backbone, share: float, scope: str = "matrices", score: str = "hybrid") -> SparseDelta:
        """Return a zero delta on the weights that a score selects: ``share`` of all backbone weights."""
        key = score, scope
        if key not in self.scores:
            self.scores[key] = estimate_importance(self.backbone, self.train, score, scope=scope)
        return SparseDelta.zeros(backbone, select(self.scores[key], share))

    def loss(self, model: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the cross-entropy on the batch."""
        return cross_entropy(model(self.images), self.labels)

    def optimizer(
        self, body: Iterable[Tensor], head: Iterable[Tensor], weight_decay: float = WEIGHT_DECAY
    ) -> torch.optim.AdamW:
        """Create AdamW with the two groups of ``shpeft.training.loop``."""
        groups = [
            {"params": list(body), "weight_decay": weight_decay},
            {"params": list(head), "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=LR, fused=self.fused or None)


@dataclass
class Arm:
    """One way to train.

    Attributes:
        title: the name of its row.
        module: the module with the parameters and buffers.
        loss: run the forward pass and the cross-entropy.
        optimizer: the optimizer.
        save: write the trained weights as ``.safetensors`` into a folder.
        before, after: called just before and just after the optimizer's step.
        clear: clear the gradients; None for the optimizer's own way.
        delta: the selected weights; None if all that the optimizer sees are trained.
        values: the trained vector of ours; None for others.
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
        """Run the timed step: forward, cross-entropy, backward, AdamW."""
        (self.clear or self.optimizer.zero_grad)()
        self.loss().backward()
        self.before()
        self.optimizer.step()
        self.after()

    def trained(self) -> list[Tensor]:
        """List what the optimizer updates, the head included."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def moving(self, backbone: Backbone) -> int:
        """Count the trained weights without the head's."""
        return self.delta.k if self.delta else sum(p.numel() for p in self.trained()) - backbone.head_weight_count


Builder = Callable[[Work], Arm]


def _plain(title: str, work: Work, backbone: Backbone, names: Iterable[str], **more: Any) -> Arm:
    """Train the named parameters and the head densely."""
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
    """Build full fine-tuning: every weight."""
    backbone = work.backbone.copy()
    return _plain("full fine-tuning", work, backbone, [info.name for info in backbone.weight_infos()])


def bitfit(work: Work) -> Arm:
    """Build BitFit: all biases of the backbone, those of norms and of the patch embedding too."""
    backbone = work.backbone.copy()
    names = [info.name for info in backbone.weight_infos() if info.name.endswith("bias")]
    return _plain("BitFit (all biases)", work, backbone, names)


def probe(work: Work) -> Arm:
    """Build a linear probe: the frozen backbone without a graph, gradients of the head alone, no cached features."""
    backbone = work.backbone.copy()

    def loss() -> Tensor:
        with torch.no_grad():
            features = backbone.features(work.images)
        return cross_entropy(backbone.head(features), work.labels)

    return _plain("linear probe (head alone)", work, backbone, (), loss=loss)


def floor(work: Work) -> Arm:
    """Build the frozen model with gradients of activations only: the lower bound of exact methods of the same depth.

    Ours selects in every block, the first block's qkv included, and a weight's gradient needs the gradient of its
    layer's *output*. So the floor's gradients begin at the output of that first selectable layer: nothing below it
    (patch embedding, first norm, the product with that layer's weight) is in the graph, as nothing is in ours. From the
    block's input instead, the floor would have one more norm and matrix product, and ours would look better.
    """
    backbone = work.backbone.copy()
    first = backbone.weight_infos("matrices")[0].name.removesuffix(".weight")
    arm = _plain("floor (activation gradients)", work, backbone, ())
    backbone.module.get_submodule(first).register_forward_hook(lambda _, args, y: y.requires_grad_())
    return arm


def dense_mask(share: float) -> Builder:
    """Build the published way: every dense gradient is multiplied by a 0/1 mask before a dense AdamW step.

    Its weight decay is 0, since AdamW would otherwise change masked weights.
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

        def save(folder: Path) -> None:  # the changes are sparse, and so is their file
            moved = [parameters[n].detach().reshape(-1)[i] - base[n] for n, i in delta.support.indices.items()]
            trained = replace(delta, values=torch.cat(moved), head=Head.of(backbone))
            save_delta(trained, folder / "delta.safetensors")

        optimizer = work.optimizer(parameters.values(), backbone.head.parameters(), weight_decay=0.0)
        title = f"dense mask, {percent(share)}"
        return _plain(title, work, backbone, parameters, optimizer=optimizer, before=mask, save=save, delta=delta)

    return build


def ours(share: float, scope: str = "matrices", score: str = "hybrid", cached: bool = False) -> Builder:
    """Build shpeft's training: exact gradients of the selected weights, and nothing dense.

    Args:
        share: the selected share of all backbone weights.
        scope: the eligible weights.
        score: the score that selects them. ``random`` is the slowest: nearly every layer needs most of its columns.
        cached: start from cached features below the first selected block, as after the first epoch of a run.
    """

    def build(work: Work) -> Arm:
        backbone = work.backbone.copy()
        delta = work.delta(backbone, share, scope, score)
        loss = partial(work.loss, backbone)
        if cached:
            backbone_split = split_below(backbone, delta.support.indices)
            assert backbone_split is not None
            with torch.no_grad():
                features = backbone_split.encode(work.images)
            loss = partial(_resumed, backbone_split, features, work.labels)
        trainable = Trainable(backbone, delta).open()  # never closed: only this arm uses the copy of the backbone

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


def _resumed(backbone_split: BackboneSplit, features: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(backbone_split.resume(features), labels)


def percent(share: float) -> str:
    """Format a share: 0.0001 is 0.01 %."""
    return f"{100 * share:.3g} %"

"""Record-level differential privacy: per-image gradients of the k values and the head, clipped, summed with noise.

DP-SGD (Abadi et al., 2016, arXiv 1607.00133) with AdamW's step. Noise grows with the square root of the number of
trained parameters, and here they are thousands in place of millions. Batches are Poisson samples, as the accounting
assumes. What is protected is that a single image took part; the number of images is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.sparse_gradients import ImageGradients
from shpeft.delta.trainable import Trainable
from shpeft.errors import TrainingError
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import Head
from shpeft.support.progress import Progress, silent
from shpeft.support.secure_random import secure_normal, secure_uniform
from shpeft.training.checkpoint import moments_of, restore
from shpeft.training.loop import rate_at

AGREEMENT = 1e-3
"""Relative difference up to which gradients of an image in a batch equal those of the image alone."""


@dataclass(frozen=True)
class Privacy:
    """How gradients are made private.

    Attributes:
        noise: z, the noise's standard deviation as a multiple of ``clip``.
        clip: the largest norm of an image's gradient.
        delta: δ of the guarantee.
        selection_noise: z of the one gradient that selects the weights; 0: no image takes part in the selection.
    """

    noise: float
    clip: float
    delta: float
    selection_noise: float = 0.0


@dataclass(frozen=True, eq=False)
class PrivateState:
    """Where private training stands.

    Attributes:
        values, head: the current ones.
        moments: the optimizer's.
        steps: taken so far.
    """

    values: Tensor
    head: Head
    moments: tuple[dict[str, Tensor], ...] = ()
    steps: int = 0


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of Poisson batches of an epoch.

    Examples:
        >>> steps_per_epoch(100, 16), steps_per_epoch(10, 16)
        (6, 1)
    """
    return max(1, round(images / batch_size))


def train_privately(
    forward_pass: ForwardPass,
    delta: SparseDelta,
    data: Dataset,
    state: PrivateState,
    privacy: Privacy,
    *,
    epochs: int,
    total_epochs: int,
    batch_size: int,
    lr: float,
    head_lr: float,
    weight_decay: float,
    warmup: float,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> PrivateState:
    """Train the values and the head for some epochs; no number that is returned says more than ε about an image.

    Args:
        delta: its support says which weights; it is not changed.
        state: where training goes on.
        epochs: to train now, of ``total_epochs``, over which the learning rates rise and fall.
        generator: of batches and noise, for tests; None: ``support.secure_random``, which nobody can guess.

    Raises:
        SelectionError: a selected weight is in no linear layer.
        TrainingError: images of a batch influence each other in this backbone.
    """
    backbone, split, each = forward_pass.backbone, data.train, ImageGradients()
    began = SparseDelta.zeros(backbone, delta.support, state.head)
    began.values = state.values
    per_epoch = steps_per_epoch(len(split), batch_size)
    rate, steps = min(1.0, batch_size / len(split)), epochs * per_epoch
    done = state.steps
    with Trainable(backbone, began, each=each) as trainable:
        optimizer = torch.optim.AdamW(
            [
                {"params": [trainable.values], "lr": lr, "weight_decay": weight_decay},
                {"params": trainable.head, "lr": head_lr, "weight_decay": 0.0},
            ]
        )
        if state.moments:
            restore(optimizer, state.moments)
        for group, peak in zip(optimizer.param_groups, (lr, head_lr), strict=True):
            group["initial_lr"] = peak
        measure = partial(_clipped_sums, forward_pass, trainable, each, data)
        _check_independence(measure, len(split))
        for step in range(steps):
            progress("training", step, steps)
            drawn = secure_uniform(len(split)) if generator is None else torch.rand(len(split), generator=generator)
            rows = torch.nonzero(drawn < rate).squeeze(1).tolist()
            sums = measure(rows, privacy.clip)
            for p, total in zip(trainable.parameters(), sums, strict=True):
                noise = (
                    secure_normal(total.shape) if generator is None else torch.randn(total.shape, generator=generator)
                )
                gradient = (total + privacy.noise * privacy.clip * noise.to(total)) / (rate * len(split))
                if p.grad is None:
                    p.grad = gradient
                else:
                    p.grad.copy_(gradient)  # the taps share its memory
            factor = rate_at(done, total_epochs * per_epoch, warmup)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.step()
            trainable.write()
            done += 1
        values, head = trainable.snapshot()
        return PrivateState(values, head, moments_of(optimizer), done)


def _clipped_sums(
    forward_pass: ForwardPass,
    trainable: Trainable,
    each: ImageGradients,
    data: Dataset,
    rows: list[int],
    clip: float,
) -> list[Tensor]:
    """Return the sums over images of their clipped gradients: of the values, the head's weight and its bias.

    The gradient of an image is that of all of these together. Of the head it is an outer product, whose norm is known
    from its factors.
    """
    trainable.zero_grad()
    sums = [torch.zeros_like(p) for p in trainable.parameters()]
    for inputs, target in forward_pass.batches(data.train, MOST_TOGETHER, order=rows) if rows else ():
        features, errors, gradients = _image_gradients(forward_pass, trainable, each, data, inputs, target)
        known = features.square().sum(1) + (len(sums) > 2)  # of the bias, where there is one
        norms = (gradients.square().sum(1) + errors.square().sum(1) * known).sqrt()
        # An image without a finite gradient counts as one without any: a sum that is NaN would tell that it takes part.
        usable = norms.isfinite()
        features, errors, gradients, norms = (part[usable] for part in (features, errors, gradients, norms))
        factors = clip / norms.clamp(min=clip)
        weighted = errors * factors[:, None]
        parts = (factors @ gradients, weighted.t() @ features, weighted.sum(0))
        for total, part in zip(sums, parts, strict=False):
            total += part
    return sums


MOST_TOGETHER = 32
"""Images whose gradients are computed together."""


def _image_gradients(
    forward_pass: ForwardPass, trainable: Trainable, each: ImageGradients, data: Dataset, inputs: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for a batch the head's inputs (B, D), its outputs' gradients (B, C), and the values' (B, k)."""
    held: list[Tensor] = []

    def note(_: torch.nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> None:
        held.append(args[0].detach())
        logits.register_hook(lambda gy: held.append(gy.detach()))

    each.images, each.parts = len(target), {}
    handle = forward_pass.backbone.head.register_forward_hook(note)
    try:
        with torch.enable_grad():
            data.train.task.loss(forward_pass(inputs), target, "sum").backward()
        features, errors = (part.reshape(len(target), -1).float() for part in held)
        return features, errors, trainable.image_gradients().float()
    finally:
        handle.remove()
        each.images = 0
        trainable.zero_grad()


def _check_independence(measure: Callable[[list[int], float], list[Tensor]], images: int) -> None:
    """Check on two images that the gradients in a batch are those of single images, so that clipping bounds each.

    Raises:
        TrainingError: they are not.
    """
    if images < 2:
        return
    together, alone = measure([0, 1], 1.0), [measure([row], 1.0) for row in (0, 1)]
    for total, *parts in zip(together, *alone, strict=True):
        if not torch.allclose(total, sum(parts, torch.zeros_like(total)), rtol=AGREEMENT, atol=AGREEMENT):
            raise TrainingError(
                "The images of a batch influence each other in this backbone, so that the gradient of a single image "
                "is not known. Choose another backbone, or train without privacy."
            )

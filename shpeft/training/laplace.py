"""A Laplace posterior over the k values of a trained delta, and predictions that are averaged over it.

The model is linearized in the values at the trained v, f(x, u) = f(x) + J(x)(u − v), with the Jacobian J (C, k) of the
logits (Immer et al., 2021, arXiv 2008.08400). With a prior N(0, I / δ) of the values the posterior is
N(v, (GGN + δ I)⁻¹), where GGN = Σ_i J_iᵀ H_i J_i over the training images and H = diag(p) − p pᵀ. δ maximizes the log
marginal likelihood (MacKay, 1992). The head is fixed.

Since k is thousands, this is exact where the posterior of a whole network has to be approximated: every product is made
with A (N C, k), AᵀA = GGN, whose Gram matrix has a side of N C or k, the smaller one. The package laplace-torch has
this posterior for a subnetwork, but its backends form the Jacobian of all weights of the module and take columns of it:
C times the whole model for each image. The taps give the k columns alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.optimize import brentq
from torch import Tensor

from shpeft.datasets import Split
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.sparse_gradients import ImageGradients
from shpeft.delta.trainable import Trainable
from shpeft.errors import TrainingError
from shpeft.evaluation.predict import Predictions
from shpeft.forward.base import ForwardPass
from shpeft.support.progress import Progress, silent
from shpeft.tasks import SINGLE_LABEL

SAMPLES = 1000
"""Logits that are drawn for each image; all have the same seed, so that no prediction depends on the other images."""

MOST_ROWS = 4
"""Rows of A that are held before they are compressed, as a multiple of k."""

BATCH = 16
"""Images whose Jacobians are computed together."""


@dataclass(frozen=True, eq=False)
class LaplacePosterior:
    """The posterior of the values of a delta, given its training images.

    Attributes:
        forward_pass: runs the delta's backbone.
        delta: the trained delta, whose values are the mean.
        factor: A (n, k) float64, with AᵀA = GGN.
        precision: δ of the prior; infinite where the values are 0 or no image depends on them.
    """

    forward_pass: ForwardPass
    delta: SparseDelta
    factor: Tensor
    precision: float

    @classmethod
    def fit(
        cls, forward_pass: ForwardPass, delta: SparseDelta, split: Split, progress: Progress = silent
    ) -> "LaplacePosterior":
        """Compute the posterior from the training images.

        Args:
            forward_pass: runs the delta's backbone, which is left unchanged.
            split: the images that the delta was trained on.

        Raises:
            TrainingError: the task is not one class an image.
            SelectionError: a value is in no linear layer.

        Examples:
            >>> import shpeft
            >>> from shpeft.forward.base import ForwardPass
            >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
            >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
            >>> support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=100)
            >>> delta = shpeft.SparseDelta.zeros(model, support)
            >>> _ = list(shpeft.finetune(model, delta, data, epochs=1, keep_start=False))
            >>> posterior = LaplacePosterior.fit(ForwardPass(model), delta, data.train)
            >>> posterior.predict(data.test).probabilities.shape == (len(data.test), len(data.classes))
            True
        """
        if split.task != SINGLE_LABEL:
            raise TrainingError(
                f"A Laplace posterior is offered for one class an image, and the task of these images is "
                f"{split.task.name}. Predict without it."
            )
        rows, held = list[Tensor](), 0
        for logits, jacobians in _linearized(forward_pass, delta, split, progress):
            rows.append((root_of_hessian(logits).mT @ jacobians).flatten(0, 1))
            held += len(rows[-1])
            if held > MOST_ROWS * delta.k:  # many images: their rows are never all in memory
                rows = [compressed(torch.cat(rows))]
                held = len(rows[0])
        factor = compressed(torch.cat(rows))
        return cls(forward_pass, delta, factor, evidence_precision(factor, delta.values))

    @cached_property
    def _inverse(self) -> Tensor:
        """(δ I + A Aᵀ)⁻¹, (n, n)."""
        gram = self.factor @ self.factor.t()
        inverse: Tensor = torch.linalg.inv(gram + self.precision * torch.eye(len(gram), dtype=gram.dtype))
        return inverse

    def covariance(self, jacobians: Tensor) -> Tensor:
        """Return the covariance J Σ Jᵀ of linearized logits, (B, C, C), for Jacobians J (B, C, k).

        By Woodbury Σ = (I − Aᵀ(δ I + A Aᵀ)⁻¹A) / δ.
        """
        if math.isinf(self.precision):
            return jacobians.new_zeros(*jacobians.shape[:2], jacobians.shape[1])
        known = jacobians @ self.factor.t()
        return (jacobians @ jacobians.mT - known @ self._inverse @ known.mT) / self.precision

    def predict(self, split: Split, progress: Progress = silent) -> Predictions:
        """Predict the cases of a split by the mean of the softmax over ``SAMPLES`` draws of their linearized logits."""
        means = []
        for logits, jacobians in _linearized(self.forward_pass, self.delta, split, progress):
            means.append(mean_probabilities(logits, self.covariance(jacobians)))
        probabilities = torch.cat(means).numpy()
        return Predictions(
            split.ids, split.labels, split.groups, split.classes, probabilities, split.subgroups, split.task
        )


def root_of_hessian(logits: Tensor) -> Tensor:
    """Return L (B, C, C) with L Lᵀ = diag(p) − p pᵀ, the Hessian of the cross-entropy in the logits (B, C).

    Examples:
        >>> L = root_of_hessian(torch.tensor([[0.0, 0.0]]))
        >>> (L @ L.mT)[0].round(decimals=9).tolist()  # p = 1/2
        [[0.25, -0.25], [-0.25, 0.25]]
    """
    p = logits.double().softmax(-1)
    return torch.diag_embed(p.sqrt()) - p[..., :, None] * p.sqrt()[..., None, :]


def compressed(factor: Tensor) -> Tensor:
    """Return A (n, k) with the same AᵀA and at most k rows."""
    if factor.shape[0] <= factor.shape[1]:
        return factor
    values, vectors = torch.linalg.eigh(factor.t() @ factor)
    rows: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.t()
    return rows


def evidence_precision(factor: Tensor, values: Tensor) -> float:
    """Return δ with the largest log marginal likelihood, the only root of δ ‖v‖² = Σ_j s_j / (s_j + δ).

    log p(D) = log p(D | v) − δ ‖v‖² / 2 − ½ Σ_j log(1 + s_j / δ) + constant, in the Laplace approximation, with the
    eigenvalues s of the GGN; the right side of the equation is the number of well-determined values.

    Args:
        factor: A (n, k).
        values: v (k,).

    Examples:
        >>> round(evidence_precision(torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 0.0])), 6)  # δ = 2 / (1 + δ)
        1.0
    """
    s = torch.linalg.eigvalsh(factor @ factor.t()).clamp(min=0)
    norm = float(values.double().square().sum())
    if not norm or not float(s.max()):
        return math.inf

    def surplus(log_delta: float) -> float:
        delta = math.exp(log_delta)
        return delta * norm - float((s / (s + delta)).sum())

    largest = float(s.sum()) / norm  # δ² ‖v‖² < Σ s
    return math.exp(brentq(surplus, math.log(largest) / 2 - 60, math.log(largest) / 2 + 1e-9, xtol=1e-10))


def mean_probabilities(logits: Tensor, covariance: Tensor) -> Tensor:
    """Return the mean softmax (B, C) of logits drawn from N(f, S), for f (B, C) and S (B, C, C): Monte Carlo."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()[..., None, :]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SAMPLES, logits.shape[1], generator=generator, dtype=torch.float64)
    draws = logits[:, None] + noise @ root.mT
    means: Tensor = draws.softmax(-1).mean(1)
    return means


def _linearized(
    forward_pass: ForwardPass, delta: SparseDelta, split: Split, progress: Progress
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits (B, C) of batches and their Jacobians (B, C, k) in the values, float64, in the split's order."""
    each = ImageGradients()
    with Trainable(forward_pass.backbone, delta, each=each) as trainable:
        for p in trainable.head:
            p.requires_grad_(False)
        done = 0
        for inputs, target in forward_pass.batches(split, BATCH):
            progress("Laplace posterior", done, len(split))
            with torch.enable_grad():
                logits = forward_pass(inputs)
            rows = [_gradients(logits, at, trainable, each) for at in range(logits.shape[1])]
            yield logits.detach().double().cpu(), torch.stack(rows, 1)
            done += len(target)


def _gradients(logits: Tensor, at: int, trainable: Trainable, each: ImageGradients) -> Tensor:
    """Return the gradients of one logit of every image, (B, k) float64: one backward pass."""
    each.images, each.parts = len(logits), {}
    try:
        logits[:, at].sum().backward(retain_graph=at + 1 < logits.shape[1])
        return trainable.image_gradients().double().cpu()
    finally:
        each.images = 0
        trainable.zero_grad()

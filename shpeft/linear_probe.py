"""The linear probe: the best head that the frozen backbone alone allows, fitted on its features.

Fine-tuning begins with it, weights are scored under it (under a random head gradients are noise), and it is the
baseline that fine-tuning has to beat.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.forward.base import ForwardPass
from shpeft.support.progress import Progress, silent
from shpeft.tasks import MultiLabel, Regression, Task
from shpeft.tasks.multi_label import UNKNOWN

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

STRENGTHS = tuple(10.0**e for e in (-4, -3, -2, -1, 0, 1))
"""Inverse L2 penalties among which the validation loss chooses."""

PENALTIES = tuple(10.0**e for e in (-1, 0, 1, 2, 3, 4, 5))
"""L2 penalties of the ridge regression, among which the validation error chooses."""


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier: logits = features · weightᵀ + bias.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.

    Examples:
        >>> import shpeft
        >>> model = shpeft.create_backbone("test_vit", classes=("no", "yes"), weights="random", image_size=32)
        >>> shpeft.Head.of(model)
        Head(2 classes, 64 features)
    """

    weight: Tensor
    bias: Tensor

    def __repr__(self) -> str:
        return f"Head({self.weight.shape[0]} classes, {self.weight.shape[1]} features)"

    @classmethod
    def of(cls, backbone: Backbone) -> "Head":
        """Return a copy of a backbone's current head, on the CPU."""
        head = backbone.head
        bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
        return cls(head.weight.detach().cpu().clone(), bias.detach().cpu().clone())

    def equals(self, other: "Head") -> bool:
        """Return whether two heads are the same to the bit."""
        return torch.equal(self.weight, other.weight) and torch.equal(self.bias, other.bias)

    def write(self, backbone: Backbone) -> None:
        """Copy this head into a backbone."""
        with torch.no_grad():
            backbone.head.weight.copy_(self.weight)
            if backbone.head.bias is not None:
                backbone.head.bias.copy_(self.bias)

    @contextmanager
    def applied(self, backbone: Backbone) -> Iterator[Backbone]:
        """Put this head into a backbone within a ``with`` block; afterwards its own head is back."""
        before = Head.of(backbone)
        self.write(backbone)
        try:
            yield backbone
        finally:
            before.write(backbone)


@dataclass(frozen=True, eq=False)
class CrossFittedHeads:
    """Heads of which each leaves a part of the images out, so that every image has one that has not seen it.

    Attributes:
        heads: of the folds.
        folds: (N,) for each image of the split the number of its fold, from 0: its head was fitted on the others.
    """

    heads: tuple[Head, ...]
    folds: tuple[int, ...]

    def __repr__(self) -> str:
        return f"CrossFittedHeads({len(self.heads)} heads, {len(self.folds)} images)"

    def parts(self, order: Iterable[int]) -> list[tuple[Head, list[int]]]:
        """Return each head with those of these rows that it leaves out, in their order; heads without any are not."""
        rows = list(order)
        own = ([row for row in rows if self.folds[row] == fold] for fold in range(len(self.heads)))
        return [(head, part) for head, part in zip(self.heads, own, strict=True) if part]


@torch.no_grad()
def extract_features(
    forward_pass: ForwardPass,
    split: Split,
    *,
    batch_size: int = 32,
    progress: Progress = silent,
    stage: str = "features",
) -> tuple[Floats, Labels]:
    """Return the head's input for every image of a split, (N, D) float32, and the labels (N, ...)."""
    features = forward_pass.collect(
        split,
        batch_size,
        lambda inputs: forward_pass.features(inputs).float(),
        progress=lambda done: progress(stage, done, len(split)),
    )
    progress(stage, len(split), len(split))
    return features.numpy(), np.asarray(split.labels)


def fit_linear_probe(
    backbone: Backbone,
    train: Split,
    val: Split,
    *,
    forward_pass: ForwardPass | None = None,
    progress: Progress = silent,
) -> Head:
    """Fit a logistic regression (L-BFGS) on standardized features of the frozen backbone.

    It is multinomial, or where findings may occur together, binary for each of them on the images where it is known. Of
    a number it is a ridge regression.

    The L2 penalty is the one of ``STRENGTHS`` or ``PENALTIES`` with the lowest loss on ``val``. The standardization is
    folded into the head, which therefore works on raw features. The backbone is not changed: see ``Head.write`` and
    ``Head.applied``.

    Args:
        forward_pass: how the backbone runs; None: the whole backbone on each image.

    Returns:
        the head, with one output for each of ``train.classes``.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> shpeft.fit_linear_probe(model, data.train, data.val)
        Head(3 classes, 64 features)
    """
    forward_pass = forward_pass or ForwardPass(backbone)
    x, y = extract_features(forward_pass, train, progress=progress, stage="features of the training images")
    x_val, y_val = extract_features(forward_pass, val, progress=progress, stage="features of the validation images")

    def fit() -> dict[str, Tensor]:
        head = fit_for_task(train.task, x, y, x_val, y_val, len(train.classes), progress=progress)
        return {"weight": head.weight, "bias": head.bias}

    return Head(**forward_pass.team.agree(fit))


def fit_head(*arguments: Any, **options: Any) -> Head:
    """Fit a linear probe: the deprecated name of ``fit_linear_probe``."""
    warnings.warn(
        "shpeft.fit_head is now called shpeft.fit_linear_probe; the next release drops the old name.",
        DeprecationWarning,
        stacklevel=2,
    )
    return fit_linear_probe(*arguments, **options)


def fit_for_task(
    task: Task, x: Floats, y: Labels, x_val: Floats, y_val: Labels, classes: int, *, progress: Progress = silent
) -> Head:
    """Fit the linear probe of a task: ``fit_linear_probe`` without the backbone.

    Args:
        x, x_val: (N, D) features of the training and of the validation images.
        y, y_val: (N, ...) their labels, as the task has them.
        classes: the number of outputs of the head.
    """
    if isinstance(task, MultiLabel):
        return fit_findings(x, y, x_val, y_val, progress=progress)
    if isinstance(task, Regression):
        number, number_val = (task.target(labels.tolist())[:, 0].numpy() for labels in (y, y_val))
        return fit_number(x, number, x_val, number_val, progress=progress)
    return fit_on_features(x, y, x_val, y_val, classes, progress=progress)


def fit_on_features(
    x: Floats, y: Labels, x_val: Floats, y_val: Labels, classes: int, *, progress: Progress = silent
) -> Head:
    """Fit the linear probe of classes that exclude each other.

    Args:
        x, x_val: (N, D) features of the training and of the validation images.
        y, y_val: (N,) their labels, from 0 to ``classes - 1``. At least two classes have training images; the others
            get the mean of the weights, and a bias that is lower by ln(N + 1).
    """
    mean, std = x.mean(0), x.std(0) + 1e-6
    best: tuple[float, LogisticRegression] | None = None
    for step, strength in enumerate(STRENGTHS):
        progress("linear probe", step, len(STRENGTHS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=500).fit((x - mean) / std, y)
        known = model.predict_proba((x_val - mean) / std)
        probabilities = np.zeros((len(y_val), classes), known.dtype)
        probabilities[:, model.classes_] = known
        loss = log_loss(y_val, probabilities, labels=np.arange(classes))
        if best is None or loss < best[0]:
            best = (loss, model)
    progress("linear probe", len(STRENGTHS), len(STRENGTHS))
    assert best is not None
    weight, bias = best[1].coef_, best[1].intercept_
    if len(weight) == 1:  # of two classes scikit-learn has the difference of the logits only
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    if len(weight) < classes:
        present, rows, biases = best[1].classes_, np.tile(weight.mean(0), (classes, 1)), np.full(classes, bias.mean())
        biases -= np.log(len(y) + 1)
        rows[present], biases[present] = weight, bias
        weight, bias = rows, biases
    return _raw(weight, bias, mean, std)


def fit_findings(x: Floats, y: Labels, x_val: Floats, y_val: Labels, *, progress: Progress = silent) -> Head:
    """Fit the linear probe of findings that may occur together: a penalty for each, on the images where it is known.

    Args:
        x, x_val: (N, D) features of the training and of the validation images.
        y, y_val: (N, C) 1 where the finding is present, 0 where it is absent, and -1 where it is unknown.
    """
    mean, std = x.mean(0), x.std(0) + 1e-6
    z, z_val = (x - mean) / std, (x_val - mean) / std
    rows, (findings, features) = [], (y.shape[1], x.shape[1])
    for c in range(findings):
        known, known_val = y[:, c] != UNKNOWN, y_val[:, c] != UNKNOWN
        best: tuple[float, LogisticRegression] | None = None
        for step, strength in enumerate(STRENGTHS):
            progress("linear probe", c * len(STRENGTHS) + step, findings * len(STRENGTHS))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = LogisticRegression(C=strength, max_iter=500).fit(z[known], y[known, c])
            loss = log_loss(y_val[known_val, c], model.predict_proba(z_val[known_val]), labels=[0, 1])
            if best is None or loss < best[0]:
                best = (loss, model)
        assert best is not None
        rows.append((best[1].coef_.reshape(features), float(best[1].intercept_[0])))
    progress("linear probe", findings * len(STRENGTHS), findings * len(STRENGTHS))
    return _raw(np.stack([weight for weight, _ in rows]), np.array([bias for _, bias in rows]), mean, std)


def fit_number(x: Floats, y: Floats, x_val: Floats, y_val: Floats, *, progress: Progress = silent) -> Head:
    """Fit the linear probe of a standardized number: a ridge regression.

    Args:
        x, x_val: (N, D) features of the training and of the validation images.
        y, y_val: (N,) their numbers.
    """
    mean, std = x.mean(0), x.std(0) + 1e-6
    z, z_val = ((part - mean) / std for part in (x.astype(np.float64), x_val.astype(np.float64)))
    best: tuple[float, Ridge] | None = None
    for step, penalty in enumerate(PENALTIES):
        progress("linear probe", step, len(PENALTIES))
        model = Ridge(penalty).fit(z, y)
        loss = float(np.mean((model.predict(z_val) - y_val) ** 2))
        if best is None or loss < best[0]:
            best = (loss, model)
    progress("linear probe", len(PENALTIES), len(PENALTIES))
    assert best is not None
    return _raw(best[1].coef_.reshape(1, -1), np.atleast_1d(best[1].intercept_), mean, std)


def _raw(weight: Floats, bias: Floats, mean: Floats, std: Floats) -> Head:
    """Return the head on raw features of one on standardized features."""
    weight = weight / std
    bias = bias - weight @ mean
    return Head(torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32)))

"""The linear probe: the head that the frozen backbone alone affords, fitted in closed loop on its features.

It is the start of every fine-tuning, the head under which weights are scored (a random head scores noise), and the
floor that fine-tuning has to beat.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.feed import Feed
from shpeft.progress import Progress, silent

STRENGTHS = tuple(10.0**e for e in (-4, -3, -2, -1, 0, 1))
"""Inverse L2 penalties that the probe tries on the validation images."""


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits = features · weightᵀ + bias.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, backbone: Backbone) -> "Head":
        """A copy of the backbone's present head."""
        head = backbone.head
        bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
        return cls(head.weight.detach().cpu().clone(), bias.detach().cpu().clone())

    def write(self, backbone: Backbone) -> None:
        """Copy the head into the backbone."""
        with torch.no_grad():
            backbone.head.weight.copy_(self.weight)
            if backbone.head.bias is not None:
                backbone.head.bias.copy_(self.bias)


@torch.no_grad()
def extract_features(
    feed: Feed, split: Split, *, batch_size: int = 32, progress: Progress = silent, stage: str = "features"
) -> tuple[np.ndarray, np.ndarray]:
    """The head's input for every image of a split: (N, D) float32, and the labels (N,)."""
    rows: list[np.ndarray] = []
    labels: list[int] = []
    for inputs, target in feed.batches(split, batch_size):
        progress(stage, len(labels), len(split))
        rows.append(feed.features(inputs).float().cpu().numpy())
        labels += target.tolist()
    progress(stage, len(split), len(split))
    return np.concatenate(rows), np.asarray(labels)


def fit_head(
    backbone: Backbone, train: Split, val: Split, *, feed: Feed | None = None, progress: Progress = silent
) -> Head:
    """Fit the linear probe: multinomial logistic regression (L-BFGS) on standardised features of the frozen backbone.

    The L2 penalty is the one of ``STRENGTHS`` with the lowest loss on ``val``. The standardisation is folded into the
    returned head, which therefore works on raw features.

    Args:
        feed: how the backbone gets its images; None: each image through the whole backbone.
    """
    feed = feed or Feed(backbone)
    x, y = extract_features(feed, train, progress=progress, stage="features of the training images")
    x_val, y_val = extract_features(feed, val, progress=progress, stage="features of the validation images")
    return fit_on_features(x, y, x_val, y_val, len(train.classes), progress=progress)


def fit_on_features(
    x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, classes: int, *, progress: Progress = silent
) -> Head:
    """The same from features (N, D) and labels (N,), of training and of validation images."""
    mean, std = x.mean(0), x.std(0) + 1e-6
    best: tuple[float, LogisticRegression] | None = None
    for step, strength in enumerate(STRENGTHS):
        progress("linear probe", step, len(STRENGTHS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=500).fit((x - mean) / std, y)
        loss = log_loss(y_val, model.predict_proba((x_val - mean) / std), labels=np.arange(classes))
        if best is None or loss < best[0]:
            best = (loss, model)
    progress("linear probe", len(STRENGTHS), len(STRENGTHS))
    assert best is not None
    weight, bias = best[1].coef_, best[1].intercept_
    if len(weight) == 1:  # two classes: scikit-learn keeps the difference of the two logits
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / std
    bias = bias - weight @ mean
    return Head(torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32)))

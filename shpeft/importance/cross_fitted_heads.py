"""Heads that have not seen the images that are scored under them.

The linear probe separates its own images better than new ones, and the penalty that suits new images leaves it
underconfident on them: a part of its gradient says no more than that the margin should grow. Cross-fitting
(Chernozhukov et al., 2018) takes each image's gradient under a head that was fitted without the image.
"""

import numpy as np
import torch

from shpeft.backbones import Backbone
from shpeft.datasets import Split
from shpeft.datasets.folds import draw_folds
from shpeft.errors import DatasetError
from shpeft.evaluation.by_task import fit_temperatures
from shpeft.evaluation.predict import Predictions
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import CrossFittedHeads, Floats, Head, extract_features, fit_for_task

FOLDS = 5
"""Parts into which the training images are divided."""


def fit_cross_fitted_heads(
    backbone: Backbone,
    train: Split,
    val: Split,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    forward_pass: ForwardPass | None = None,
) -> CrossFittedHeads:
    """Fit a linear probe for each fold of the training images, on the images of the other folds.

    Penalties are chosen as in ``fit_linear_probe``, and each head is then divided by the temperature that fits it best,
    both on the validation images: they are images that no head was fitted on, and those that a head leaves out have no
    say in it at all. A number has no temperature.

    Args:
        folds: drawn by class and in whole groups (patients), see ``draw_folds``.
        seed: of the folds.
        forward_pass: how the backbone runs; None: the whole backbone on each image.

    Raises:
        DatasetError: there are too few images or groups of a class for so many folds.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=60&size=64", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> heads = fit_cross_fitted_heads(model, data.train, data.val)
        >>> heads
        CrossFittedHeads(5 heads, 31 images)
        >>> shpeft.estimate_importance(model, data.train, "gradient", head=heads)
        Scores(gradient, 122.9K eligible of 300.1K weights)
    """
    forward_pass = forward_pass or ForwardPass(backbone)
    try:
        left_out = draw_folds(train, folds, seed)
    except DatasetError as error:
        raise DatasetError(f"No heads can be cross-fitted on these images. {error} Or use the linear probe.") from error
    x, y = extract_features(forward_pass, train)
    x_val, y_val = extract_features(forward_pass, val)
    heads, number = [], np.empty(len(train), dtype=np.int64)
    for fold, rows in enumerate(left_out):
        number[rows] = fold
        others = np.setdiff1d(np.arange(len(train)), rows)
        if reason := train.task.unlearnable([train.labels[row] for row in others], train.classes):
            raise DatasetError(
                f"No heads can be cross-fitted on these images: without those of fold {fold + 1} of {folds} {reason}. "
                "Use the linear probe, or more images."
            )
        head = fit_for_task(train.task, x[others], y[others], x_val, y_val, len(train.classes))
        heads.append(_at_temperature(head, x_val, val))
    return CrossFittedHeads(tuple(heads), tuple(number.tolist()))


def _at_temperature(head: Head, x: Floats, split: Split) -> Head:
    """Return the head with its logits divided by the temperature that fits a split with features x (N, D)."""
    logits = torch.from_numpy(x) @ head.weight.T + head.bias
    probabilities = split.task.probabilities(logits).numpy()
    fitted = fit_temperatures(
        Predictions(split.ids, split.labels, split.groups, split.classes, probabilities, task=split.task)
    )
    temperature = torch.tensor(1.0 if fitted is None else fitted).reshape(-1)
    return Head(head.weight / temperature[:, None], head.bias / temperature)

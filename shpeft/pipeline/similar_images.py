"""The training images that a model finds most similar to a case: by the features that its head reads."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset
from shpeft.errors import DiagnosisError
from shpeft.forward.base import ForwardPass
from shpeft.pipeline.progress import STORED_IMAGES
from shpeft.runs import RunFolder
from shpeft.runs.similar import TrainingFeatures
from shpeft.support.progress import Progress, silent
from shpeft.tasks import Regression

BATCH = 32
"""Images per forward pass."""


@dataclass(frozen=True)
class SimilarImage:
    """A training image that is similar to a case.

    Attributes:
        row: its position in the training split.
        label: its class.
        similarity: cosine of the angle between the features of both images, up to 1.
    """

    row: int
    label: str
    similarity: float


def unit_features(backbone: Backbone, inputs: Tensor, forward_pass: ForwardPass | None = None) -> NDArray[np.float32]:
    """Return the input of the head, scaled to length 1, (B, D).

    Args:
        backbone: the fine-tuned model.
        inputs: normalized inputs (B, 3, H, W), or what the forward pass takes.
        forward_pass: runs the model; None: the whole backbone.
    """
    with torch.no_grad():
        features = backbone.features(inputs.to(backbone.device), forward_pass).float()
    scaled: NDArray[np.float32] = torch.nn.functional.normalize(features, dim=1).cpu().numpy()
    return scaled


def training_features(
    backbone: Backbone, data: Dataset, *, forward_pass: ForwardPass | None = None, progress: Progress = silent
) -> TrainingFeatures:
    """Return the features of at most ``STORED_IMAGES`` training images, evenly spaced.

    Args:
        backbone: the fine-tuned model.
        data: the dataset; only its training images are read.
        forward_pass: runs the model; None: the whole backbone.
    """
    rows = range(0, len(data.train), -(-len(data.train) // STORED_IMAGES))
    split, whole = data.train.subset(rows), forward_pass or ForwardPass(backbone)
    features = whole.collect(
        split,
        BATCH,
        lambda inputs: torch.from_numpy(unit_features(backbone, inputs, whole)),
        progress=lambda done: progress("features for similar images", done, len(split)),
    )
    progress("features for similar images", len(split), len(split))
    return TrainingFeatures(
        features.numpy().astype(np.float16),
        np.array(split.labels, np.float64) if isinstance(split.task, Regression) else np.array(split.labels, np.int32),
        np.array(rows, np.int32),
        data.fingerprint,
    )


def similar_images(run: RunFolder, features: NDArray[np.float32], n: int = 4) -> tuple[SimilarImage, ...]:
    """Return the n training images whose features are nearest to those of a case, the nearest first.

    Args:
        run: a run whose configuration has ``store_features``.
        features: (D,) of the case, as :func:`unit_features` of the run's model returns them.
        n: number of images; fewer if fewer are stored.

    Raises:
        DiagnosisError: the run stores no features, or they have another length.
        RunError: the file is damaged.
    """
    stored = run.similar.read()
    if stored is None:
        raise DiagnosisError(
            f"The run {run.name} stores no features of its training images. Train with store_features: true to see "
            "similar images."
        )
    if features.shape != stored.features.shape[1:]:
        raise DiagnosisError(
            f"The features of the case have the shape {features.shape}; those of the run's training images have "
            f"{stored.features.shape[1:]}. Use unit_features of the run's own model, for one image."
        )
    similarity = stored.features.astype(np.float32) @ features
    test = run.predictions.test()
    nearest = np.argsort(-similarity, kind="stable")[:n]
    return tuple(
        SimilarImage(
            int(stored.rows[i]), test.task.shown(stored.labels[i].tolist(), test.classes), float(similarity[i])
        )
        for i in nearest.tolist()
    )

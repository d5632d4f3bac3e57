"""Diagnosis: one image, the probability of each class, and where the score is sensitive."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from shpeft import NOTICE
from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError, did_you_mean
from shpeft.images import AS_FILED, Decoding, ImageSource, open_image
from shpeft.progress import Progress, silent
from shpeft.saliency import Saliency, check_method, explain

CAPTION = "Where the score is sensitive, not where disease is."


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a model says about one image. Holds nothing of the file: no name, no path, no metadata.

    Attributes:
        probabilities: the softmax of the logits, one for each class; not calibrated.
        predicted: the class of the highest probability.
        decoding: what to show of an image with more than 8 bits or one frame: as in training.
        target: the class that the saliency explains.
        image_size: (width, height) of the image in pixels, before it was resized for the model.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    target: str
    saliency: Saliency | None
    image_size: tuple[int, int]
    notice: str = NOTICE

    def ranked(self) -> list[tuple[str, float]]:
        """(class, probability), the most probable first."""
        return sorted(zip(self.classes, self.probabilities, strict=True), key=lambda pair: -pair[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the same image gives the same. The map itself is left to the overlay."""
        saliency = None
        if self.saliency is not None:
            saliency = {
                "method": self.saliency.method,
                "target": self.target,
                "residual": self.saliency.residual,
                "caption": CAPTION,
            }
        return {
            "predicted": self.predicted,
            "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
            "saliency": saliency,
            "image_size": list(self.image_size),
            "notice": self.notice,
        }


def diagnose(
    backbone: Backbone,
    image: ImageSource,
    *,
    saliency: str | None = None,
    target: str | None = None,
    decoding: Decoding = AS_FILED,
    seed: int = 0,
    progress: Progress = silent,
) -> Diagnosis:
    """Diagnose one image; the backbone is left as it was.

    Args:
        image: a path, bytes, an open file or a PIL image.
        saliency: a key of :data:`shpeft.saliency.METHODS`, or None for no saliency.
        decoding: what to show of an image with more than 8 bits or one frame: as in training.
        target: the class to explain; None: the predicted one.

    Raises:
        UnreadableImage: not an image, or a damaged one.
        DiagnosisError: an unknown saliency method or target, or a model whose output is not a number.
    """
    if saliency is not None:
        check_method(saliency)
    if target is not None and target not in backbone.classes:
        raise DiagnosisError(f"There is no class {target!r}. {did_you_mean(target, backbone.classes)}")
    opened = open_image(image, decoding)
    inputs = backbone.transform(opened).to(backbone.device)
    progress("diagnosing", 0, 1)
    with torch.no_grad():
        probabilities = tuple(backbone(inputs)[0].double().softmax(0).tolist())
    progress("diagnosing", 1, 1)
    if not all(math.isfinite(p) for p in probabilities):
        raise DiagnosisError(
            "The model's output is not a number: its weights overflow. Train it again at a lower rate."
        )
    predicted = backbone.classes[probabilities.index(max(probabilities))]
    chosen = target or predicted
    explained = None
    if saliency is not None:
        explained = explain(backbone, inputs, backbone.classes.index(chosen), saliency, seed=seed, progress=progress)
    return Diagnosis(backbone.classes, probabilities, predicted, chosen, explained, opened.size)

"""Diagnosis: one image, the probability of each class, and where the score is sensitive."""

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from shpeft import NOTICE
from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError, did_you_mean
from shpeft.images import AS_FILED, Decoding, ImageSource, open_image
from shpeft.progress import Progress, silent
from shpeft.saliency import Saliency, check_method, explain
from shpeft.trust import Judgement, Novelty, NoveltyDetector, Trust, judge

CAPTION = "Where the score is sensitive, not where disease is."


def case_id(data: bytes) -> str:
    """What an image is called in anything that is kept: made of its file's content (SHA-256), not of its name.

    Whoever has the files can find out which is which; the id alone tells nothing. The letters in front keep
    spreadsheets from taking an id such as 12345e678901 for a number.
    """
    return f"case-{hashlib.sha256(data).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a model says about one image. Holds nothing of the file: no name, no path, no metadata.

    Attributes:
        probabilities: the softmax of the logits, one for each class; not calibrated.
        predicted: the class of the highest probability.
        target: the class that the saliency explains.
        image_size: (width, height) of the image in pixels, before it was resized for the model.
        judgement: calibrated probabilities and what the validation images say of them; None where nothing is known.
        novelty: how unlike the training images this one looks to the model; None where nothing is known.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    target: str
    saliency: Saliency | None
    image_size: tuple[int, int]
    judgement: Judgement | None = None
    novelty: Novelty | None = None
    notice: str = NOTICE

    def ranked(self) -> list[tuple[str, float]]:
        """(class, probability), the most probable first; calibrated where the model is."""
        shown = self.probabilities if self.judgement is None else self.judgement.probabilities
        return sorted(zip(self.classes, shown, strict=True), key=lambda pair: -pair[1])

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
            "judgement": None if self.judgement is None else self.judgement.to_dict(),
            "novelty": None if self.novelty is None else asdict(self.novelty),
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
    trust: Trust | None = None,
    novelty: NoveltyDetector | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Diagnosis:
    """Diagnose one image; the backbone is left as it was.

    Args:
        image: a path, bytes, an open file or a PIL image.
        saliency: a key of :data:`shpeft.saliency.METHODS`, or None for no saliency.
        decoding: what to show of an image with more than 8 bits or one frame: as in training.
        target: the class to explain; None: the predicted one.
        trust: what validation images say about this model's probabilities.
        novelty: how the training images look to this model.

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
    features, logits = _outputs(backbone, inputs)
    probabilities = tuple(logits.double().softmax(0).tolist())
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
    return Diagnosis(
        classes=backbone.classes,
        probabilities=probabilities,
        predicted=predicted,
        target=chosen,
        saliency=explained,
        image_size=opened.size,
        judgement=None if trust is None else judge(trust, probabilities),
        novelty=None if novelty is None else novelty.judge(features.float().cpu().numpy()),
    )


@torch.no_grad()
def _outputs(backbone: Backbone, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the head sees (D,) and the logits (C,) of one image, from one pass."""
    logits: list[Tensor] = []

    def forward(given: Tensor) -> Tensor:
        logits.append(backbone(given))
        return logits[0]

    return backbone.features(inputs, forward)[0], logits[0][0]

"""Diagnosis: the probability of each class for one image, or a number, and where the score is sensitive."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shpeft import NOTICE
from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.evaluation import (
    Answer,
    AnyReliability,
    CaseReliability,
    Estimate,
    FindingReliability,
    IntervalReliability,
    OODDetector,
    OODScore,
    Reliability,
    answer_case,
    answer_findings,
    answer_number,
    assess_case,
    estimate_case,
)
from shpeft.evaluation.findings import sides
from shpeft.evaluation.ood_features import features_and_logits
from shpeft.explanation.saliency import Saliency, check_method, explain
from shpeft.explanation.target import target_index
from shpeft.images import DEFAULT_DECODING, Decoding, Facts, ImageSource, open_image
from shpeft.images.burnt_in import BurntIn
from shpeft.support.progress import Progress, silent
from shpeft.tasks import MultiLabel, Regression

CAPTION = "Where the score is sensitive, not where disease is."


def case_id(data: bytes) -> str:
    """Return an opaque id, made of the file's content (SHA-256) and not of its name.

    Whoever has the files can match them to their ids; the id alone reveals nothing. The prefix keeps spreadsheets from
    reading an id such as 12345e678901 as a number.

    Examples:
        >>> case_id(b"the content of a file")
        'case-54f51b673147'
    """
    return f"case-{hashlib.sha256(data).hexdigest()[:12]}"


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Result of a model for one image. It holds nothing of the file: no name, no path, no metadata.

    Attributes:
        classes: (C,) names.
        probabilities: (C,) by the task's link, such as the softmax of the logits; not calibrated.
        predicted: the class with the highest probability; of ordered classes the median one.
        target: the class that the saliency explains.
        saliency: the map; None if no method was given.
        image_size: (width, height) of the image in pixels, before it is resized for the model.
        reliability: calibrated probabilities and decisions; None without a fitted :class:`Reliability`.
        ood: how unusual the image is among the training images; None without a detector.
        findings: where findings may occur together, the diagnosis of each, between its two classes ``no edema`` and
            ``edema``; ``reliability`` is then theirs and not that of the whole.
        estimate: of a regression, the number with its interval; ``classes`` is then the quantity, and
            ``probabilities`` holds the number.
        burnt_in: text and markers in the pixels, which the answer may rest on; None where nobody looked.

    Examples:
        >>> import shpeft
        >>> diagnosis = shpeft.Diagnosis(("healthy", "ill"), (0.2, 0.8), "ill", "ill", None, (640, 480))
        >>> diagnosis
        Diagnosis(ill 80.0%, healthy 20.0%; not calibrated)
        >>> diagnosis.ranked()[0]
        ('ill', 0.8)
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    target: str
    saliency: Saliency | None
    image_size: tuple[int, int]
    reliability: CaseReliability | None = None
    ood: OODScore | None = None
    notice: str = NOTICE
    findings: tuple["Diagnosis", ...] = ()
    estimate: Estimate | None = None
    burnt_in: BurntIn | None = None

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences about the image that a reader needs before the answer, and without one.

        Examples:
            >>> import shpeft
            >>> left = shpeft.evaluation.OODScore(1.0, 0.4, False, cautions=("The file is marked left.",))
            >>> shpeft.Diagnosis(("healthy", "ill"), (0.2, 0.8), "ill", "ill", None, (640, 480), ood=left).cautions
            ('The file is marked left.',)
        """
        marked = () if self.burnt_in is None or not self.burnt_in.present else (self.burnt_in.sentence,)
        return (*(() if self.ood is None else self.ood.cautions), *marked)

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities that are shown are calibrated, or the number has an interval."""
        if self.estimate is not None:
            return self.estimate.coverage is not None
        return all(part.reliability is not None for part in self.findings or (self,))

    @property
    def shown(self) -> tuple[float, ...]:
        """The probability of each class, calibrated where the model is."""
        if self.findings:
            return tuple(part.shown[1] for part in self.findings)
        return self.probabilities if self.reliability is None else self.reliability.probabilities

    @property
    def answer(self) -> Answer:
        """The answer for a reader: a decision with what is known about it, or none with the reasons.

        Examples:
            >>> import shpeft
            >>> odd = shpeft.evaluation.OODScore(distance=4.2, percentile=1.0, alarm=True)
            >>> diagnosis = shpeft.Diagnosis(("healthy", "ill"), (0.2, 0.8), "ill", "ill", None, (640, 480), ood=odd)
            >>> diagnosis.answer.headline, diagnosis.answer.decision
            ('No answer', 'ill')
            >>> diagnosis.answer.reasons
            ('The image looks unlike the training images: it is more unusual than every validation image.',)
        """
        if self.estimate is not None:
            return answer_number(self.estimate, self.ood)
        if self.findings:
            parts = [answer_case(d.classes, d.probabilities, d.reliability, d.ood, d.target) for d in self.findings]
            return answer_findings(parts, self.ood)
        return answer_case(self.classes, self.probabilities, self.reliability, self.ood, predicted=self.predicted)

    def __repr__(self) -> str:
        if self.estimate is not None:
            return f"Diagnosis({self.answer.headline})"
        kind = "calibrated" if self.calibrated else "not calibrated"
        top = ", ".join(f"{name} {probability:.1%}" for name, probability in self.ranked()[:3])
        gate = "" if self.answer.given else "no answer; "
        return f"Diagnosis({gate}{top}{', …' * (len(self.classes) > 3)}; {kind})"

    def ranked(self) -> list[tuple[str, float]]:
        """Return (class, probability) pairs, the most probable first; calibrated if the model is."""
        return sorted(zip(self.classes, self.shown, strict=True), key=lambda pair: -pair[1])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the same image gives the same values. The map itself is left out."""
        saliency = None
        if self.saliency is not None:
            saliency = {
                "method": self.saliency.method,
                "target": self.target,
                "residual": self.saliency.residual,
                "caption": CAPTION,
            }
        decided: dict[str, Any] = {"predicted_is_an_answer": self.answer.given}
        if self.estimate is None:
            decided = {
                "predicted": self.predicted,
                **decided,
                "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
                "judgement": self._judgement(),
            }
        novelty = None if self.ood is None else {**asdict(self.ood), "mismatches": list(self.ood.mismatches)}
        if novelty is not None:
            del novelty["cautions"]  # among those of the diagnosis
        return {
            "cautions": list(self.cautions),
            "answer": self.answer.to_dict(),
            **decided,
            "novelty": novelty,
            "burnt_in": None if self.burnt_in is None else self.burnt_in.to_dict(),
            "saliency": saliency,
            "image_size": list(self.image_size),
            "notice": self.notice,
        }

    def _judgement(self) -> dict[str, Any] | None:
        if self.findings:
            return {name: part._judgement() for name, part in zip(self.classes, self.findings, strict=True)}
        return None if self.reliability is None else self.reliability.to_dict()


def diagnose(
    backbone: Backbone,
    image: ImageSource,
    *,
    method: str | None = None,
    target: str | int | None = None,
    decoding: Decoding = DEFAULT_DECODING,
    reliability: AnyReliability | None = None,
    ood_detector: OODDetector | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Diagnosis:
    """Diagnose one image; the backbone is unchanged.

    Args:
        backbone: the fine-tuned model.
        image: a path, bytes, an open file, a PIL image, or a uint8 array (H, W) or (H, W, 3).
        method: a key of :data:`shpeft.explanation.saliency.METHODS`, or None for no saliency map.
        target: the class to explain, by name or by index; None: the class that the answer is about.
        decoding: window and frame of an image with more than 8 bits or one frame: as in training.
        reliability: calibration and decision rules of this model, such as ``run.reliability``.
        ood_detector: fitted on this model's training images, such as ``run.ood_detector``.
        seed: of the saliency method.

    Raises:
        UnreadableImage: not an image, or a damaged one.
        DiagnosisError: an unknown saliency method or target, or a model output that is not finite.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> diagnosis = shpeft.diagnose(model, data.test.image(0), method="saliency")
        >>> diagnosis.predicted == diagnosis.ranked()[0][0]
        True
        >>> diagnosis.saliency.map.shape
        (32, 32)
    """
    if method is not None:
        check_method(method)
    c = None if target is None else target_index(target, backbone.classes)
    opened = open_image(image, decoding)
    inputs = backbone.transform(opened).to(backbone.device)
    progress("diagnosing", 0, 1)
    [diagnosis] = _judge(backbone, inputs, [opened], reliability, ood_detector)
    progress("diagnosing", 1, 1)
    if isinstance(diagnosis, DiagnosisError):
        raise diagnosis
    explained_class = diagnosis.target if c is None else backbone.classes[c]
    saliency = None
    if method is not None:
        saliency = explain(backbone, inputs, explained_class, method, seed=seed, progress=progress)
    return replace(diagnosis, target=explained_class, saliency=saliency, burnt_in=BurntIn.of_image(opened))


def diagnose_together(
    backbone: Backbone,
    images: Sequence[Image.Image | None],
    *,
    reliability: AnyReliability | None = None,
    ood_detector: OODDetector | None = None,
) -> list[Diagnosis | DiagnosisError | None]:
    """Diagnose opened images in one forward pass; the backbone is unchanged.

    The number of images that pass together decides the last bits of a result. A missing image is passed as a black one,
    so a row's bits depend on its image and on ``len(images)``, not on the other images.

    Args:
        backbone: the fine-tuned model.
        images: as :func:`shpeft.images.open_image` returns them; None where one is missing.
        reliability, ood_detector: as in :func:`diagnose`.

    Returns:
        For each image its diagnosis, or the error of an output that is not finite; None where it is missing. What is
        burnt into the images is not searched for.

    Examples:
        >>> import shpeft
        >>> from shpeft.diagnosis import diagnose_together
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> [first, missing] = diagnose_together(model, [data.test.image(0), None])
        >>> first.image_size, missing
        ((64, 64), None)
    """
    black = Image.new("RGB", (1, 1))
    passed = [black if image is None else image for image in images]
    inputs = torch.cat([backbone.transform(image) for image in passed]).to(backbone.device)
    judged = _judge(backbone, inputs, passed, reliability, ood_detector)
    return [None if image is None else row for image, row in zip(images, judged, strict=True)]


def _judge(
    backbone: Backbone,
    inputs: Tensor,
    images: Sequence[Image.Image],
    reliability: AnyReliability | None,
    ood_detector: OODDetector | None,
) -> list[Diagnosis | DiagnosisError]:
    """Return the diagnosis of each image, or the error of an output that is not finite.

    Args:
        inputs: the images as the model's input, (B, channels, height, width).
    """
    features, logits = features_and_logits(backbone, inputs, () if ood_detector is None else ood_detector.blocks)
    judged = list[Diagnosis | DiagnosisError]()
    for image, row, outputs in zip(images, features, logits, strict=True):
        probabilities = tuple(backbone.task.probabilities(outputs).tolist())
        if all(map(math.isfinite, probabilities)):
            ood = None if ood_detector is None else ood_detector.score(row, Facts.of_image(image))
            judged.append(_diagnosis(backbone, probabilities, image.size, reliability, ood))
        else:
            judged.append(
                DiagnosisError(
                    "The model's output is not a number: its activations overflow. Train it again with a lower "
                    "learning rate."
                )
            )
    return judged


def _diagnosis(
    backbone: Backbone,
    probabilities: tuple[float, ...],
    size: tuple[int, int],
    reliability: AnyReliability | None,
    ood: OODScore | None,
) -> Diagnosis:
    """Return the diagnosis of one image, whose target is the class that the answer is about."""
    predicted = backbone.classes[int(backbone.task.decide(np.array([probabilities]))[0])]
    case = assess_case(reliability, probabilities, predicted) if isinstance(reliability, Reliability) else None
    diagnosis = Diagnosis(backbone.classes, probabilities, predicted, predicted, None, size, case, ood)
    if isinstance(backbone.task, MultiLabel):
        fitted = reliability.findings if isinstance(reliability, FindingReliability) else {}
        diagnosis = replace(diagnosis, findings=_findings(diagnosis, fitted))
    if isinstance(backbone.task, Regression):
        interval = reliability if isinstance(reliability, IntervalReliability) else None
        estimate = estimate_case(backbone.classes[0], probabilities[0], backbone.task.unit, interval)
        diagnosis = replace(diagnosis, estimate=estimate)
    return replace(diagnosis, target=diagnosis.answer.probability_of)


def _findings(whole: Diagnosis, fitted: Mapping[str, Reliability]) -> tuple[Diagnosis, ...]:
    """Return the diagnosis of each finding."""
    parts = []
    for name, p in zip(whole.classes, whole.probabilities, strict=True):
        case = assess_case(fitted[name], (1 - p, p)) if name in fitted else None
        named = sides(name)[int(p >= 0.5)]
        parts.append(Diagnosis(sides(name), (1 - p, p), named, name, None, whole.image_size, case, whole.ood))
    return tuple(parts)

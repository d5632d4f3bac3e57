"""Calibrate a run: fit its temperature, decision rules and out-of-distribution detector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from shpeft.backbones import Backbone
from shpeft.config.schema import CONFIDENCE, DecisionConfig
from shpeft.datasets import Dataset, Split, load_dataset
from shpeft.datasets.other_images import other_images
from shpeft.delta.file import read_header
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import (
    AbstentionRule,
    AnyReliability,
    AnyRules,
    DecisionRules,
    OODDetector,
    OODDistances,
    ThresholdRule,
    fit_ood_detector,
)
from shpeft.evaluation.by_task import fit_any_reliability
from shpeft.evaluation.calibration import class_index
from shpeft.evaluation.ood_features import detector_blocks, features_and_logits, image_features
from shpeft.evaluation.predict import Predictions, predict
from shpeft.forward.base import ForwardPass
from shpeft.pipeline.loaded_run import load_run
from shpeft.pipeline.progress import FEATURE_IMAGES
from shpeft.runs import RunFolder
from shpeft.runs.model_card import model_card
from shpeft.support.progress import Progress, silent
from shpeft.tasks import Regression

BATCH = 32
"""Images per forward pass of the detector's features."""


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """The fine-tuned model's validation predictions, a detector fitted on its training features, and its distances."""

    validation: Predictions
    ood_detector: OODDetector
    distances: OODDistances


def collect_calibration_data(
    backbone: Backbone,
    data: Dataset,
    *,
    forward_pass: ForwardPass | None = None,
    progress: Progress = silent,
) -> CalibrationData:
    """Run a fine-tuned backbone on validation and test images, and on evenly spaced training images.

    Args:
        forward_pass: for the predictions; the detector's blocks may be cached ones, so its features are computed anew.

    Returns:
        the validation predictions, an OOD detector fitted on at most ``FEATURE_IMAGES`` training images, and its
        distances of validation and test images and of images of other kinds.
    """
    forward_pass = forward_pass or ForwardPass(backbone)
    validation = predict(
        backbone, data.val, forward_pass=forward_pass, progress=progress, stage="predictions of the validation images"
    )
    whole, blocks = ForwardPass(backbone, forward_pass.precision, forward_pass.team), detector_blocks(backbone)
    rows = range(0, len(data.train), -(-len(data.train) // FEATURE_IMAGES))
    val, train, test = (
        _features(whole, split, blocks, progress, f"features of the {name} images")
        for name, split in (
            ("validation", data.val),
            ("training", data.train.subset(rows)),
            ("test", data.test),
        )
    )
    facts = [data.train.facts(row) for row in rows]
    detector = fit_ood_detector(train, val, blocks=blocks, facts=facts, modality=data.card.get("modality"))
    others: dict[str, list[Image.Image]] = {}
    for kind, image in other_images(data.name):
        others.setdefault(kind, []).append(image)
    distances = OODDistances(
        detector.limit,
        detector.distances(val),
        detector.distances(test),
        {kind: detector.distances(image_features(backbone, images, blocks)) for kind, images in others.items()},
    )
    return CalibrationData(validation, detector, distances)


def _features(
    forward_pass: ForwardPass, split: Split, blocks: Sequence[str], progress: Progress, stage: str
) -> NDArray[np.float32]:
    """Return the detector's features of every image of a split, (N, D)."""
    features: NDArray[np.float32] = forward_pass.collect(
        split,
        BATCH,
        lambda inputs: torch.from_numpy(features_and_logits(forward_pass.backbone, inputs, blocks, forward_pass)[0]),
        progress=lambda done: progress(stage, done, len(split)),
    ).numpy()
    progress(stage, len(split), len(split))
    return features


def calibrate_run(folder: RunFolder, *, device: str = "auto", progress: Progress = silent) -> AnyReliability:
    """Calibrate a finished run of an older version as newer ones are calibrated when they finish.

    Decision rules that the run has are kept.

    Raises:
        RunError: the run is not finished.
        ShpeftError: its model or its images cannot be opened.
    """
    config = folder.config
    with load_run(folder, device) as loaded:
        data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=progress)
        data = data.with_classes(loaded.backbone.classes)  # an older run sorted them otherwise
        collected = collect_calibration_data(loaded.backbone, data, progress=progress)
    folder.predictions.write_validation(collected.validation)
    folder.reliability.write_detector(collected.ood_detector)
    if folder.predictions.test().ids == data.test.ids:  # else the test images have changed since the run
        folder.reliability.write_distances(collected.distances)
    before = folder.reliability.read()
    return set_decision_rules(folder, rules_of(config.decision) if before is None else before.rules)


def rules_of(decision: DecisionConfig) -> DecisionRules:
    """Return the decision rules of a configuration.

    With a class that must not be missed, its threshold is the operating point, and the abstain band lies around it.
    """
    if not decision.must_not_miss:
        return DecisionRules()
    threshold = ThresholdRule(decision.must_not_miss, "sensitivity", target=decision.sensitivity, confidence=CONFIDENCE)
    return DecisionRules(threshold, abstention=AbstentionRule(on="threshold"))


def check_decision(decision: DecisionConfig, validation: Split) -> None:
    """Check, before anything is trained, that the validation images can choose the threshold.

    Raises:
        ClassMismatch: there is no such class.
        ConfigError: no validation image has the class.
    """
    name = decision.must_not_miss
    if name and isinstance(validation.task, Regression):
        raise ConfigError(
            f"must_not_miss is {name!r}, and the task is regression, which has no classes. Leave must_not_miss empty; "
            "the result has a prediction interval instead."
        )
    if name and class_index(validation.classes, name) >= 0 and not validation.counts()[name]:
        raise ConfigError(
            f"None of the {len(validation):,} validation images is {name!r}, the class that must not be missed, so no "
            "threshold can be fitted. Give more images of it, or a larger share for validation."
        )


def fit_decision_rules(folder: RunFolder, rules: AnyRules) -> AnyReliability:
    """Fit threshold, prediction sets and abstention by new decision rules; the run is unchanged.

    Raises:
        RunError: the run has no validation predictions.
        ConfigError, ClassMismatch: the validation images do not allow these rules.
    """
    validation = folder.predictions.validation()
    if validation is None:
        raise RunError(
            f"The run {folder.name} has no validation predictions: it was made by an older version. "
            f"Make them with 'shpeft calibrate {folder.name}'."
        )
    return fit_any_reliability(validation, rules, folder.predictions.test(), folder.reliability.distances())


def set_decision_rules(folder: RunFolder, rules: AnyRules) -> AnyReliability:
    """Fit threshold, prediction sets and abstention by new decision rules, and write them to the run.

    Raises:
        RunError: the run has no validation predictions, or is read-only.
        ConfigError, ClassMismatch: the validation images do not allow these rules; the run is unchanged.
    """
    reliability = fit_decision_rules(folder, rules)
    folder.reliability.write(reliability)
    metrics = folder.metrics.read()
    if metrics is not None and folder.delta_path.exists():
        folder.write_card(model_card(folder.config, metrics, read_header(folder.delta_path), reliability))
    return reliability

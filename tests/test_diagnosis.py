"""Diagnosis: probabilities, saliency, calibration and refusals."""

import io
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shpeft import NOTICE
from shpeft.backbones import Backbone
from shpeft.diagnosis import CAPTION, Diagnosis, diagnose
from shpeft.errors import DiagnosisError, UnreadableImage
from shpeft.evaluation import DecisionRules, ThresholdRule, fit_ood_detector, fit_reliability
from shpeft.evaluation.ood_features import detector_blocks, features_and_logits
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import calibrate
from tests.conftest import assert_unchanged, state
from tests.helpers.present import present


@pytest.fixture
def scan() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))


def test_probabilities_are_the_softmax_of_the_logits(vit: Backbone, scan: Image.Image) -> None:
    before = state(vit)
    diagnosis = diagnose(vit, scan)
    with torch.no_grad():
        expected = vit(vit.transform(scan))[0].double().softmax(0)
    assert diagnosis.probabilities == tuple(expected.tolist())
    assert sum(diagnosis.probabilities) == pytest.approx(1)
    assert diagnosis.predicted == diagnosis.target == vit.classes[int(expected.argmax())]
    assert diagnosis.saliency is None
    assert diagnosis.image_size == (60, 40)
    assert_unchanged(vit, before)


def test_ranked_begins_with_the_predicted_class(vit: Backbone, scan: Image.Image) -> None:
    diagnosis = diagnose(vit, scan)
    ranked = diagnosis.ranked()
    assert ranked[0] == (diagnosis.predicted, max(diagnosis.probabilities))
    assert [p for _, p in ranked] == sorted(diagnosis.probabilities, reverse=True)
    assert {name for name, _ in ranked} == set(vit.classes)


def test_the_saliency_explains_the_target_or_else_the_predicted_class(vit: Backbone, scan: Image.Image) -> None:
    diagnosis = diagnose(vit, scan, method="saliency")
    assert diagnosis.saliency is not None
    assert vit.classes[diagnosis.saliency.target] == diagnosis.predicted
    assert diagnosis.saliency.map.shape == (32, 32)
    other = next(name for name in vit.classes if name != diagnosis.predicted)
    asked = diagnose(vit, scan, method="saliency", target=other)
    assert asked.target == other
    assert asked.predicted == diagnosis.predicted
    assert diagnose(vit, scan, target=vit.classes.index(other)).target == other
    assert asked.saliency is not None
    assert vit.classes[asked.saliency.target] == other
    assert not np.array_equal(asked.saliency.map, diagnosis.saliency.map)


def test_to_dict_is_json_with_the_notice_and_the_caption(vit: Backbone, scan: Image.Image) -> None:
    first, second = (diagnose(vit, scan, method="integrated_gradients").to_dict() for _ in range(2))
    assert first == second
    plain = json.loads(json.dumps(first, allow_nan=False))
    assert plain == first
    assert set(plain["probabilities"]) == set(vit.classes)
    assert plain["saliency"]["method"] == "integrated_gradients"
    assert plain["saliency"]["target"] == plain["predicted"]
    assert plain["saliency"]["residual"] < 0.02
    assert plain["saliency"]["caption"] == CAPTION == "Where the score is sensitive, not where disease is."
    assert plain["notice"] == NOTICE == "Research use only, not a medical device."
    assert diagnose(vit, scan).to_dict()["saliency"] is None


def test_diagnosis_holds_nothing_of_the_file(vit: Backbone, scan: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "DOE_JANE_1970.png"
    info = PngInfo()
    info.add_text("PatientName", "DOE JANE")
    scan.save(path, pnginfo=info)
    diagnosis = diagnose(vit, path, method="saliency")
    text = json.dumps(diagnosis.to_dict()) + repr(diagnosis)
    assert "DOE" not in text
    assert str(tmp_path) not in text
    assert {f.name for f in fields(Diagnosis)} == {
        "classes", "probabilities", "predicted", "target", "saliency", "image_size", "reliability",
        "ood", "notice", "findings", "estimate", "burnt_in"
    }  # fmt: skip


def test_any_kind_of_source_gives_the_same(vit: Backbone, scan: Image.Image, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    scan.save(buffer, "PNG")
    (tmp_path / "scan.png").write_bytes(buffer.getvalue())
    sources = (
        scan,
        tmp_path / "scan.png",
        str(tmp_path / "scan.png"),
        buffer.getvalue(),
        io.BytesIO(buffer.getvalue()),
        np.asarray(scan),
    )
    assert len({diagnose(vit, source).probabilities for source in sources}) == 1


def test_unknown_names_offer_the_nearest_before_anything_is_opened(vit: Backbone) -> None:
    with pytest.raises(DiagnosisError, match=r"no saliency method 'smoothgrd'.*smoothgrad"):
        diagnose(vit, b"not an image", method="smoothgrd")
    with pytest.raises(DiagnosisError, match=r"no class 'lef'.*left"):
        diagnose(vit, b"not an image", target="lef")


def test_array_of_another_kind_is_refused(vit: Backbone) -> None:
    with pytest.raises(UnreadableImage, match=r"float64 with shape \(4, 4\) is not an image"):
        diagnose(vit, np.zeros((4, 4)))


def test_upload_that_is_not_an_image_is_refused(vit: Backbone) -> None:
    with pytest.raises(UnreadableImage, match="the uploaded file cannot be read as an image"):
        diagnose(vit, b"%PDF-1.4 a report")


def test_overflowing_model_is_refused(vit: Backbone, scan: Image.Image) -> None:
    with torch.no_grad():
        vit.head.bias.fill_(torch.inf)
    with pytest.raises(DiagnosisError, match="not a number"):
        diagnose(vit, scan)


@pytest.fixture
def validation(vit: Backbone) -> Predictions:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 60)
    labels = tuple(int(rng.choice(3, p=row)) for row in p)
    ids = tuple(map(str, range(60)))
    return Predictions(ids, labels, ids, vit.classes, p)


def test_diagnosis_is_calibrated_on_the_validation_images(
    vit: Backbone, scan: Image.Image, validation: Predictions
) -> None:
    reliability = fit_reliability(validation, DecisionRules(ThresholdRule(vit.classes[1])))
    blocks = detector_blocks(vit)
    features, _ = features_and_logits(vit, vit.transform(scan), blocks)
    rng = np.random.default_rng(2)
    usual = features + 0.005 * rng.normal(size=(80, features.shape[1])).astype(np.float32)
    detector = fit_ood_detector(usual[:60], usual[60:], blocks=blocks)
    plain, diagnosis = diagnose(vit, scan), diagnose(vit, scan, reliability=reliability, ood_detector=detector)
    assert diagnosis.probabilities == plain.probabilities
    assert diagnosis.predicted == plain.predicted
    calibrated = calibrate(np.asarray(plain.probabilities), reliability.calibration.temperature)
    case, ood = present(diagnosis.reliability), present(diagnosis.ood)
    assert case.probabilities == tuple(calibrated.tolist())
    assert [p for _, p in diagnosis.ranked()] == sorted(calibrated, reverse=True)
    assert case.prediction_set[0] == diagnosis.predicted
    assert present(case.decision).is_positive == (calibrated[1] >= present(reliability.operating).threshold)
    assert not ood.alarm
    noise = Image.fromarray(255 * (np.indices((40, 60)).sum(0) % 2).astype(np.uint8))
    assert present(diagnose(vit, noise, ood_detector=detector).ood).alarm
    entry = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert entry == diagnosis.to_dict()
    at = vit.classes.index(diagnosis.predicted)
    behind = reliability.calibration.bin_of(diagnosis.predicted, float(calibrated[at])).observed
    counts = entry["judgement"]["validation_counts"][at]
    assert (counts["cases"], counts["with_the_class"]) == (behind.cases, behind.count)
    assert entry["judgement"]["threshold"]["validation_sensitivity"]["low"] < 1
    assert entry["judgement"]["abstain"] in (True, False)
    assert plain.to_dict()["judgement"] is plain.to_dict()["novelty"] is None


def test_progress_reports_both_stages(vit: Backbone, scan: Image.Image) -> None:
    stages = []
    diagnose(vit, scan, method="saliency", progress=lambda stage, done, total: stages.append((stage, done, total)))
    assert stages[0] == ("diagnosing", 0, 1)
    assert ("diagnosing", 1, 1) in stages
    assert stages[-1] == ("explaining", 1, 1)

"""Diagnosis: probabilities, saliency, and sentences for what cannot be diagnosed."""

import io
import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shpeft import NOTICE
from shpeft.diagnosis import CAPTION, Diagnosis, diagnose
from shpeft.errors import DiagnosisError, UnreadableImage
from shpeft.evaluation import Predictions
from shpeft.temperature import calibrate
from shpeft.trust import Choices, ThresholdRule, fit_novelty, fit_trust
from tests.conftest import assert_unchanged, state


@pytest.fixture
def scan() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))


def test_probabilities_are_the_softmax_of_the_logits(vit, scan):
    before = state(vit)
    found = diagnose(vit, scan)
    with torch.no_grad():
        expected = vit(vit.transform(scan))[0].double().softmax(0)
    assert found.probabilities == tuple(expected.tolist())
    assert sum(found.probabilities) == pytest.approx(1)
    assert found.predicted == found.target == vit.classes[int(expected.argmax())]
    assert found.saliency is None
    assert found.image_size == (60, 40)
    assert_unchanged(vit, before)


def test_ranked_begins_with_the_predicted_class(vit, scan):
    found = diagnose(vit, scan)
    ranked = found.ranked()
    assert ranked[0] == (found.predicted, max(found.probabilities))
    assert [p for _, p in ranked] == sorted(found.probabilities, reverse=True)
    assert {name for name, _ in ranked} == set(vit.classes)


def test_the_saliency_explains_the_target_or_else_the_predicted_class(vit, scan):
    found = diagnose(vit, scan, saliency="saliency")
    assert found.saliency is not None
    assert vit.classes[found.saliency.target] == found.predicted
    assert found.saliency.map.shape == (32, 32)
    other = next(name for name in vit.classes if name != found.predicted)
    asked = diagnose(vit, scan, saliency="saliency", target=other)
    assert asked.target == other
    assert asked.predicted == found.predicted
    assert asked.saliency is not None
    assert vit.classes[asked.saliency.target] == other
    assert not np.array_equal(asked.saliency.map, found.saliency.map)


def test_to_dict_is_json_with_the_notice_and_the_caption(vit, scan):
    first, second = (diagnose(vit, scan, saliency="integrated_gradients").to_dict() for _ in range(2))
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


def test_nothing_of_the_file_is_kept(vit, scan, tmp_path):
    path = tmp_path / "DOE_JANE_1970.png"
    info = PngInfo()
    info.add_text("PatientName", "DOE JANE")
    scan.save(path, pnginfo=info)
    found = diagnose(vit, path, saliency="saliency")
    words = json.dumps(found.to_dict()) + repr(found)
    assert "DOE" not in words
    assert str(tmp_path) not in words
    assert {f.name for f in fields(Diagnosis)} == {
        "classes", "probabilities", "predicted", "target", "saliency", "image_size", "judgement",
        "novelty", "notice"
    }  # fmt: skip


def test_any_kind_of_source_gives_the_same(vit, scan, tmp_path):
    buffer = io.BytesIO()
    scan.save(buffer, "PNG")
    (tmp_path / "scan.png").write_bytes(buffer.getvalue())
    sources = (
        scan,
        tmp_path / "scan.png",
        str(tmp_path / "scan.png"),
        buffer.getvalue(),
        io.BytesIO(buffer.getvalue()),
    )
    assert len({diagnose(vit, source).probabilities for source in sources}) == 1


def test_unknown_names_offer_the_nearest_before_anything_is_opened(vit):
    with pytest.raises(DiagnosisError, match=r"no saliency method 'smoothgrd'.*smoothgrad"):
        diagnose(vit, b"not an image", saliency="smoothgrd")
    with pytest.raises(DiagnosisError, match=r"no class 'lef'.*left"):
        diagnose(vit, b"not an image", target="lef")


def test_an_upload_that_is_no_image_is_a_sentence(vit):
    with pytest.raises(UnreadableImage, match="the uploaded file cannot be read as an image"):
        diagnose(vit, b"%PDF-1.4 a report")


def test_a_model_that_overflows_is_a_sentence(vit, scan):
    with torch.no_grad():
        vit.head.bias.fill_(torch.inf)
    with pytest.raises(DiagnosisError, match="not a number"):
        diagnose(vit, scan)


@pytest.fixture
def validation(vit) -> Predictions:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 60)
    labels = tuple(int(rng.choice(3, p=row)) for row in p)
    ids = tuple(map(str, range(60)))
    return Predictions(ids, labels, ids, vit.classes, p)


def test_the_validation_images_judge_a_diagnosis(vit, scan, validation):
    trust = fit_trust(validation, Choices(ThresholdRule(vit.classes[1])))
    with torch.no_grad():
        features = vit.features(vit.transform(scan)).numpy()
    rng = np.random.default_rng(2)
    usual = features + 0.05 * rng.normal(size=(80, features.shape[1])).astype(np.float32)
    detector = fit_novelty(usual[:60], usual[60:])
    plain, found = diagnose(vit, scan), diagnose(vit, scan, trust=trust, novelty=detector)
    assert found.probabilities == plain.probabilities
    assert found.predicted == plain.predicted
    calibrated = calibrate(np.asarray(plain.probabilities), trust.calibration.temperature)
    assert found.judgement.probabilities == tuple(calibrated.tolist())
    assert [p for _, p in found.ranked()] == sorted(calibrated, reverse=True)
    assert found.judgement.members[0] == found.predicted
    assert found.judgement.call.called == (calibrated[1] >= trust.operating.threshold)
    assert not found.novelty.alarm
    noise = Image.fromarray(255 * (np.indices((40, 60)).sum(0) % 2).astype(np.uint8))
    assert diagnose(vit, noise, novelty=detector).novelty.alarm
    entry = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert entry == found.to_dict()
    at = vit.classes.index(found.predicted)
    behind = trust.calibration.behind(found.predicted, float(calibrated[at])).observed
    counts = entry["judgement"]["validation_counts"][at]
    assert (counts["cases"], counts["with_the_class"]) == (behind.cases, behind.count)
    assert entry["judgement"]["threshold"]["validation_sensitivity"]["low"] < 1
    assert entry["judgement"]["abstain"] in (True, False)
    assert plain.to_dict()["judgement"] is plain.to_dict()["novelty"] is None


def test_progress_tells_both_stages(vit, scan):
    stages = []
    diagnose(vit, scan, saliency="saliency", progress=lambda stage, done, total: stages.append((stage, done, total)))
    assert stages[0] == ("diagnosing", 0, 1)
    assert ("diagnosing", 1, 1) in stages
    assert stages[-1] == ("explaining", 1, 1)

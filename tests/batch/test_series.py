"""A series gets one answer, by a stated rule, with the slices that made it."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from shpeft.batch import Series, by_series, diagnose_batch, names_csv, open_source, summary
from shpeft.batch.series import list_series
from shpeft.batch.series_rules import attend, diagnose_series
from shpeft.batch.worklist import worklist_rows
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import diagnose
from shpeft.errors import Cancelled, ConfigError, DiagnosisError, UnreadableImage
from shpeft.evaluation import DecisionRules, ThresholdRule, TrainingFacts
from shpeft.pipeline import LoadedRun, load_run, set_decision_rules
from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft
from tests.helpers.dicom_studies import enhanced, errors_of, photograph, slice_of
from tests.helpers.present import present, single_label

RULES: tuple[SeriesRule, ...] = ("mean", "highest-risk", "attention")


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> RunFolder:
    folder = RunFolder.open(tiny_run)
    set_decision_rules(folder, DecisionRules(ThresholdRule("exudates")))
    return folder


@pytest.fixture(scope="module")
def model(run: RunFolder) -> LoadedRun:
    return load_run(run, "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series whose names are in another order than their slices, a file twice, and a file that is no slice."""
    path = tmp_path_factory.mktemp("study")
    for number in range(6):
        (path / f"{9 - number}_DOE.dcm").write_bytes(slice_of(number))
    for number in range(6, 8):
        (path / f"other{number}.dcm").write_bytes(slice_of(number, SeriesInstanceUID="2.25.9"))
    (path / "twice.dcm").write_bytes(slice_of(0))
    (path / "notes.png").write_bytes(b"\x89PNG")
    return path


def series_in(folder: Path) -> tuple[Series, ...]:
    with open_source([folder]) as source:
        return list_series(source).series


def test_cautions_of_every_slice_are_those_of_the_series_each_once(tmp_path: Path, model: LoadedRun) -> None:
    detector = replace(present(model.ood_detector), training=TrainingFacts(20, {"L": 20}))
    warned = replace(model, ood_detector=detector)
    for number, side in enumerate("LRR"):
        (tmp_path / f"{number}.dcm").write_bytes(slice_of(number, Laterality=side))
    for rule in RULES:
        (caution,) = diagnose_series(warned, series_in(tmp_path)[0], rule).diagnosis.cautions
        assert caution.startswith("The file is marked right; of 20 training images, 20 are marked left")


def test_one_series_is_one_case_in_order(folder: Path) -> None:
    with open_source([folder]) as source:
        listed = list_series(source)
        assert [len(series) for series in listed.series] == [6, 2]
        assert [name for name, _ in listed.left_out] == ["notes.png", "twice.dcm"]
        along = [each.header.position[2] for each in listed.series[0].slices]
    assert along == sorted(along)


def test_the_highest_risk_is_the_answer_of_that_slice_alone(folder: Path, model: LoadedRun) -> None:
    series = series_in(folder)[0]
    answered = diagnose_series(model, series, "highest-risk")
    single = [
        diagnose(
            model.backbone,
            each.entry.read(),
            decoding=model.decoding,
            reliability=model.reliability,
            ood_detector=model.ood_detector,
        )
        for each in series.slices
    ]
    risks = [dict(each.ranked())["exudates"] for each in single]
    assert answered.risks == tuple(risks)
    assert answered.key == int(np.argmax(risks))
    assert answered.diagnosis.to_dict() == single[answered.key].to_dict()
    given = diagnose_series(replace(model, ood_detector=None), series, "highest-risk")
    assert f"that of slice {given.key + 1}" in given.sentences[0]


@pytest.mark.parametrize("rule", RULES)
def test_without_an_answer_no_sentence_names_a_class(rule: SeriesRule, folder: Path, model: LoadedRun) -> None:
    unlike = replace(model, ood_detector=replace(present(model.ood_detector), limit=0.0))
    answered = diagnose_series(unlike, series_in(folder)[0], rule)
    assert not answered.diagnosis.answer.given
    made = {"mean": "their mean", "highest-risk": f"slice {answered.key + 1}, which would make it,"}
    unanswered = made.get(rule, "their mean by attention")
    assert answered.sentences == (f"There is no answer to this series of 6 slices: {unanswered} gets none.",)


def test_the_mean_is_the_mean_of_the_slices(folder: Path, model: LoadedRun) -> None:
    series = series_in(folder)[0]
    answered = diagnose_series(model, series, "mean")
    single = [diagnose(model.backbone, each.entry.read(), decoding=model.decoding) for each in series.slices]
    assert answered.diagnosis.probabilities == tuple(np.mean([each.probabilities for each in single], axis=0).tolist())
    distances = sorted(
        present(diagnose(model.backbone, each.entry.read(), ood_detector=model.ood_detector).ood).distance
        for each in series.slices
    )
    assert present(answered.diagnosis.ood).distance == distances[3]


def test_attention_is_a_linear_head_on_the_pooled_features() -> None:
    generator = np.random.default_rng(0)
    features, head = generator.normal(size=(7, 5)), generator.normal(size=(5, 3))

    def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
        powers: NDArray[np.float64] = np.exp(logits)
        shares: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
        return shares

    weights, pooled = attend(softmax(features @ head), positive=2)
    odds = softmax(features @ head)[:, 2] / (1 - softmax(features @ head)[:, 2])
    assert weights == pytest.approx(odds / odds.sum())
    assert pooled == pytest.approx(softmax(weights @ features @ head))
    certain, _ = attend(np.array([[1.0, 0.0], [0.0, 1.0]]), positive=1)
    assert certain == pytest.approx([0, 1])


def test_attention_says_which_slice_counts_most(folder: Path, model: LoadedRun) -> None:
    model = replace(model, ood_detector=None)  # an answer is given
    answered = diagnose_series(model, series_in(folder)[0], "attention")
    assert sum(answered.weights) == pytest.approx(1)
    assert int(np.argmax(answered.weights)) == answered.key
    assert f"slice {answered.key + 1} the most" in answered.sentences[0]
    assert answered.to_dict()["weights"] == list(answered.weights)
    mean = diagnose_series(model, series_in(folder)[0], "mean").diagnosis
    assert dict(answered.diagnosis.ranked())["exudates"] >= dict(mean.ranked())["exudates"]


def test_frames_of_a_file_are_slices(model: LoadedRun, tmp_path: Path) -> None:
    (tmp_path / "mr.dcm").write_bytes(enhanced(4))
    (series,) = series_in(tmp_path)
    assert len(series) == 4
    assert len(set(diagnose_series(model, series).risks)) == 4


def test_the_highest_risk_needs_a_class_that_must_not_be_missed(folder: Path, model: LoadedRun) -> None:
    bare = replace(model, reliability=replace(single_label(model.reliability), operating=None))
    rules: tuple[SeriesRule, ...] = ("highest-risk", "attention")
    for rule in rules:
        with pytest.raises(ConfigError, match=f"{rule} ranks slices .* --series-rule mean"):
            diagnose_series(bare, series_in(folder)[0], rule)
    assert diagnose_series(bare, series_in(folder)[0], "mean").positive in model.backbone.classes


def test_a_damaged_slice_is_not_left_out_of_an_answer(model: LoadedRun, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(slice_of(0))
    (tmp_path / "b.dcm").write_bytes(slice_of(1, PhotometricInterpretation="ARGB"))
    with pytest.raises(UnreadableImage, match="Slice 2 of 2"):
        diagnose_series(model, series_in(tmp_path)[0])


def test_images_that_are_no_slices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DiagnosisError, match="Without --series-rule"):
        series_in(tmp_path)


def test_the_command_answers_each_series(run: RunFolder, folder: Path, tmp_path: Path) -> None:
    command = ("diagnose", run.path, folder, "--series-rule", "highest-risk", "--dicom-out", tmp_path / "out")
    result = shpeft(*command, "--json")
    first, second = json.loads(result.stdout)
    assert (first["slices"], second["slices"]) == (6, 2)
    assert "DOE" not in result.stdout
    assert "notes.png" in result.stderr
    report = pydicom.dcmread(tmp_path / "out" / f"{first['id']}_report.dcm")
    key = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert key.ReferencedSOPInstanceUID == f"2.25.2{first['key_slice'] - 1:04}"
    assert first["sentences"][0] in report.to_json()
    for path in (tmp_path / "out").iterdir():
        assert errors_of(path) == []
    text = shpeft("diagnose", run.path, folder, "--series-rule", "mean", "--out", tmp_path).stdout
    assert "is the mean of the probabilities of its 6 slices" in text
    assert len(list(tmp_path.glob("series*.json"))) == 2


def test_a_report_is_of_a_single_image(run: RunFolder, folder: Path, tmp_path: Path) -> None:
    error = shpeft("diagnose", run.path, folder, "--series-rule", "mean", "--report", tmp_path / "x", code=2).stderr
    assert "--series-rule answers series" in error


@pytest.fixture(scope="module")
def mixed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two series, a photograph, and a file with frames that is alone in its series."""
    path = shutil.copytree(folder, tmp_path_factory.mktemp("mixed") / "study")
    (path / "0_photo.dcm").write_bytes(photograph(SeriesInstanceUID="2.25.77"))
    (path / "mr.dcm").write_bytes(enhanced(3).replace(b"2.25.1002", b"2.25.1009"))
    return path


def test_a_batch_has_a_row_for_each_series(mixed: Path, model: LoadedRun, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    with open_source([mixed]) as source:
        cases = by_series(source, "highest-risk")
        result = diagnose_batch(model, cases, out)
    text = out.read_text()
    rows = worklist_rows(text)
    assert [row.slices for row in rows] == [1, 6, 1, 1, 2]
    assert [row.key_slice is None for row in rows] == [True, False, True, True, False]
    first = cases.series[0]
    answered = diagnose_series(model, first, "highest-risk")
    cells = list(csv.DictReader(io.StringIO(text)))[1]
    assert (rows[1].id, rows[1].headline, rows[1].key_slice) == (
        first.id,
        answered.diagnosis.answer.headline,
        answered.key,
    )
    assert cells["about_series"] == " ".join(answered.sentences)
    assert rows[1].urgency == max(answered.risks)
    assert cells["made_by"].endswith("/highest-risk")
    assert summary(text).done == 5
    assert ("twice.dcm", "The same image comes twice.") in result.unreadable
    assert [line.split(",")[0] for line in names_csv(result).splitlines()].count(first.id) == 6
    assert "DOE" not in text


def test_a_stopped_batch_of_series_ends_with_the_same_bytes(mixed: Path, model: LoadedRun, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole.csv", tmp_path / "stopped.csv"

    def stop_within_a_series(stage: str, done: int, total: int) -> None:
        if stage == "diagnosing slice 2 of 2":
            raise Cancelled

    with open_source([mixed]) as source:
        diagnose_batch(model, by_series(source, "attention"), whole)
        with pytest.raises(Cancelled):
            diagnose_batch(model, by_series(source, "attention"), stopped, progress=stop_within_a_series)
        assert len(stopped.read_text().splitlines()) == 5
        diagnose_batch(model, by_series(source, "attention"), stopped)
        assert stopped.read_bytes() == whole.read_bytes()
        with pytest.raises(DiagnosisError, match="another model, with other settings"):
            diagnose_batch(model, by_series(source, "mean"), stopped)


def test_a_series_with_a_damaged_slice_is_a_row_without_an_answer(model: LoadedRun, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(slice_of(0))
    (tmp_path / "b.dcm").write_bytes(slice_of(1, PhotometricInterpretation="ARGB"))
    with open_source([tmp_path]) as source:
        diagnose_batch(model, by_series(source, "mean"), tmp_path / "results.csv")
    (row,) = worklist_rows((tmp_path / "results.csv").read_text())
    assert row.error.startswith("Slice 2 of 2 cannot be read")


def test_the_command_writes_a_row_for_each_series(run: RunFolder, mixed: Path, tmp_path: Path) -> None:
    shpeft("diagnose", run.path, mixed, "--series-rule", "attention", "--csv", tmp_path / "x.csv")
    assert [row.slices for row in worklist_rows((tmp_path / "x.csv").read_text())] == [1, 6, 1, 1, 2]


def test_a_dicomdir_is_a_list_of_images(run: RunFolder, tmp_path: Path) -> None:
    path = pydicom.data.get_testdata_file("DICOMDIR", download=False)
    with open_source([str(path)]) as source:
        listed = list_series(source)
    assert (len(source.entries), len(listed.series), listed.left_out) == (31, 13, ())
    (tmp_path / "DICOMDIR").write_bytes(Path(str(path)).read_bytes())
    with pytest.raises(DiagnosisError, match="Copy the whole disc"), open_source([tmp_path / "DICOMDIR"]):
        pass

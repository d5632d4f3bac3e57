"""A run that predicts a number, from a table to diagnosis, list, report and sweep."""

import csv
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shpeft
from shpeft.batch import diagnose_batch, open_source, summary
from shpeft.batch.worklist import in_order, worklist_rows
from shpeft.config.sweep import Sweep
from shpeft.errors import ConfigError, DatasetError, EmptyDataset, TrainingError
from shpeft.evaluation import IntervalReliability, IntervalRule, OODScore
from shpeft.pipeline import calibrate_run, evaluate_run, set_decision_rules
from shpeft.pipeline.sweep import run_sweep
from shpeft.runs import RunFolder
from shpeft.runs.sweep import SweepFolder
from shpeft.tasks import Regression
from tests.helpers.dicom_studies import slice_of
from tests.helpers.number_tables import write_numbers
from tests.pipeline.conftest import TINY, carry_out, tiny


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("numbers") / "images", cases=96)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, table: Path) -> RunFolder:
    config = tiny(dataset={"source": str(table), "task": "regression", "columns": {"label": "brightness"}})
    return carry_out(tmp_path_factory.mktemp("runs") / "numbers", config)


def test_the_run_learns_the_number(run: RunFolder) -> None:
    metrics = run.metrics.read()
    assert metrics is not None
    assert metrics["finetuned"].keys() == {"cases", "unit", "mae", "rmse", "r2", "bias"}
    assert metrics["finetuned"]["r2"]["value"] > 0.5
    assert metrics["finetuned"]["unit"] == "%"
    assert metrics["difference"].keys() == {"mae", "rmse", "r2", "bias"}
    assert metrics["dataset"]["values"]["train"]["min"] >= 10
    test = run.predictions.test()
    off = np.abs(test.probabilities[:, 0] - np.array(test.labels))
    assert metrics["finetuned"]["mae"]["value"] == off.mean()
    history = run.history.read()
    assert all("AUROC" not in str(report) for report in history)


def test_the_card_has_an_interval_and_no_classes(run: RunFolder) -> None:
    card = (run.path / "README.md").read_text()
    assert "Quantity: brightness" in card
    assert "## Prediction interval" in card
    for word in ("AUROC", "Threshold", "Temperature", "Classes", "recall"):
        assert word not in card


def test_the_interval_is_that_of_the_validation_errors(run: RunFolder) -> None:
    reliability, validation = run.reliability.read(), run.predictions.validation()
    assert isinstance(reliability, IntervalReliability)
    assert validation is not None
    off = np.sort(np.abs(validation.probabilities[:, 0] - np.array(validation.labels)))
    assert reliability.half_width == off[int(np.ceil(0.9 * (len(off) + 1))) - 1]
    assert reliability.test is not None
    assert reliability.test.gate is not None
    assert reliability.headline in (run.path / "README.md").read_text().replace("\\", "")


def test_a_diagnosis_is_a_number_with_its_interval(run: RunFolder, table: Path) -> None:
    reliability = run.reliability.read()
    assert isinstance(reliability, IntervalReliability)
    data = shpeft.load_dataset(**run.config.dataset.model_dump())
    with shpeft.load_run(run, "cpu") as loaded:
        assert isinstance(loaded.backbone.task, Regression)
        assert loaded.backbone.task.mean == pytest.approx(np.mean(data.train.labels))
        test = run.predictions.test()
        diagnosis = shpeft.diagnose(
            loaded.backbone, data.test.image(3), reliability=reliability, method="integrated_gradients"
        )
        estimate = diagnosis.estimate
        assert estimate is not None
        assert estimate.value == pytest.approx(test.probabilities[3, 0], rel=1e-4)
        assert reliability.half_width is not None
        assert estimate.high == pytest.approx(estimate.value + reliability.half_width)
        assert diagnosis.answer.headline == f"brightness: {estimate.text}"
        assert " %, 90 % interval " in estimate.text
        assert diagnosis.saliency is not None
        assert diagnosis.saliency.residual is not None
        assert diagnosis.saliency.residual < 0.05
        written = json.dumps(diagnosis.to_dict())
        assert "probabilities" not in written
        assert "threshold" not in written
        with loaded.pretrained() as base:
            inputs = base.transform(data.test.image(3))
            attribution = shpeft.attribute_weights(base, loaded.delta, inputs, 0)
            curve = shpeft.strength_curve(base, loaded.delta, inputs, [0.0, 1.0])
        assert curve.unit == "%"
        assert curve.of(0)[1] == pytest.approx(estimate.value, rel=1e-5)
        assert attribution.after == pytest.approx(
            (estimate.value - loaded.backbone.task.mean) / loaded.backbone.task.std, abs=1e-4
        )
        html = shpeft.report(diagnosis, data.test.image(3), run, attribution=attribution)
    assert estimate.text in html
    for word in ("Probability of each class", "AUROC", "Temperature", "abstain band", "Results by class"):
        assert word not in html


def test_an_unlike_image_gets_no_number(run: RunFolder) -> None:
    with shpeft.load_run(run, "cpu") as loaded:
        odd = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        diagnosis = shpeft.diagnose(
            loaded.backbone, odd, reliability=loaded.reliability, ood_detector=loaded.ood_detector
        )
    assert diagnosis.answer.headline == "No answer"
    assert diagnosis.to_dict()["predicted_is_an_answer"] is False


def test_a_list_of_images(run: RunFolder, table: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "odd.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [table.with_name("000.png"), tmp_path / "odd.png", tmp_path / "broken.png"]
    with shpeft.load_run(run, "cpu") as loaded, open_source(paths) as source:
        diagnose_batch(loaded, source, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert not {"probability", "abstain", "threshold", "prediction_set"} & rows[0].keys()
    assert float(rows[0]["low"]) < float(rows[0]["value"]) < float(rows[0]["high"])
    assert (rows[0]["quantity"], rows[0]["unit"], rows[0]["coverage"]) == ("brightness", "%", "0.9")
    assert (rows[1]["answer"], rows[1]["value"], rows[1]["low"]) == ("No answer", "", "")
    assert rows[2]["error"]
    counts = summary(text)
    assert counts.answers == {"brightness": 1, "No answer": 1}
    assert counts.of_numbers
    listed = worklist_rows(text)
    assert [row.position for row in in_order(listed, "doubt")] == [1, 0, 2]
    assert [row.of_number for row in listed] == [True] * 3
    low, high = replace(listed[0], value=3.0), replace(listed[0], value=20.0, position=3)
    assert [row.value for row in in_order([low, high, listed[1]], "largest")] == [None, 20.0, 3.0]
    assert [row.value for row in in_order([low, high, listed[2]], "smallest")] == [3.0, 20.0, None]


def test_other_coverages_are_saved(run: RunFolder, tmp_path: Path, table: Path) -> None:
    before = run.reliability.read()
    wider = set_decision_rules(run, IntervalRule(0.5))
    assert isinstance(before, IntervalReliability)
    assert isinstance(wider, IntervalReliability)
    assert before.half_width is not None
    assert wider.half_width is not None
    assert wider.half_width < before.half_width
    set_decision_rules(run, before.rules)
    assert run.reliability.read() == before
    calibrate_run(run, device="cpu")
    again = run.reliability.read()
    assert isinstance(again, IntervalReliability)
    assert again.half_width == pytest.approx(before.half_width)


def test_external_images_are_compared_with_the_internal_test(run: RunFolder, tmp_path: Path) -> None:
    other = write_numbers(tmp_path / "other", cases=30)
    _, metrics = evaluate_run(run, str(other), device="cpu")
    assert metrics["finetuned"]["cases"] == 30
    assert metrics["drop"]["mae"]["value"] == pytest.approx(
        metrics["finetuned"]["mae"]["value"] - metrics["internal"]["mae"]["value"]
    )
    inches = write_numbers(tmp_path / "inches", cases=12, title="brightness [in]")
    with pytest.raises(shpeft.ShpeftError, match="in in, and the model predicts it in %"):
        evaluate_run(run, str(inches), device="cpu")


def test_a_second_run_has_the_same_bits(run: RunFolder, tmp_path: Path) -> None:
    again = carry_out(tmp_path / "again", run.config)
    for name in ("delta.safetensors", "predictions.csv", "trust.json", "metrics.jsonl"):
        if name != "metrics.jsonl":  # it has the seconds
            assert (again.path / name).read_bytes() == (run.path / name).read_bytes(), name


def test_scores_use_the_gradient_of_the_squared_error() -> None:
    data = shpeft.load_dataset("phantom:nodule?n=24&size=32")
    model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32, task=data.task)
    model.head.weight.data.normal_(generator=None)
    scores = shpeft.estimate_importance(model, data.train, "gradient", scope="matrices", images=len(data.train))
    name = "blocks.2.mlp.fc1.weight"
    weight = model.parameters[name]
    weight.requires_grad_(True)
    inputs = next(iter(_batch(model, data.train)))
    loss = 0.5 * ((model(inputs) - data.task.target(data.train.labels)) ** 2).mean()
    loss.backward()
    assert weight.grad is not None
    own = scores.values[name]
    expected = weight.grad.abs().flatten()
    ratio = own.flatten().double() / expected.double()
    assert float(ratio.std() / ratio.mean()) < 1e-3


def _batch(model: Any, split: Any) -> Any:
    import torch

    yield torch.cat([model.transform(split.image(row)) for row in range(len(split))])


def test_a_sweep_has_the_metrics_of_the_task(table: Path, tmp_path: Path) -> None:
    dataset = {"source": str(table), "task": "regression", "columns": {"label": "brightness"}}
    config = TINY | {"dataset": dataset, "training": {"epochs": 1, "batch_size": 16}}
    folder = SweepFolder.create(tmp_path / "sweep", Sweep.parse({"config": config, "folds": 2}))
    results = run_sweep(folder)
    assert results["combinations"][0]["finetuned"].keys() == {"mae", "rmse", "r2", "bias"}
    assert results["pooled"][0]["finetuned"]["cases"] == 96
    header = (folder.path / "table.csv").read_text().splitlines()[0]
    assert "finetuned:mae" in header
    assert "auroc" not in header


# -- refusals


def load(table: Path, **more: Any) -> shpeft.Dataset:
    return shpeft.load_dataset(str(table), task="regression", columns={"label": "brightness"}, **more)


@pytest.mark.parametrize("cell", ["", "nan", "inf", "bright", "4,5"])
def test_a_cell_that_is_no_number_is_named_by_its_row(tmp_path: Path, cell: str) -> None:
    table = write_numbers(tmp_path / "t", 12, cell=lambda row, value: cell if row == 4 else f"{value}")
    with pytest.raises(DatasetError, match=r"in the column 'brightness \[%\]', row 5, .* finite number in every row"):
        load(table)


def test_equal_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match=r"every image has the brightness 7\. Add images, choose another column"):
        load(write_numbers(tmp_path / "t", 12, cell=lambda *_: "7"))


def test_class_folders_are_sent_to_a_table(tmp_path: Path) -> None:
    from tests.helpers.image_folders import write_picture

    for number, name in enumerate("ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
        write_picture(tmp_path / "images" / name / "1.png", number)
    with pytest.raises(DatasetError, match="Give a table with the columns path and value"):
        shpeft.load_dataset(str(tmp_path / "images"), task="regression")
    with pytest.raises(DatasetError, match="has classes, and a regression needs a number"):
        shpeft.load_dataset("phantom:fundus?n=24&size=32", task="regression")
    with pytest.raises(DatasetError, match="has a number for each image"):
        shpeft.load_dataset("phantom:nodule?n=24&size=32&shortcut=1")


def test_a_missing_column_and_a_unit_by_name(tmp_path: Path) -> None:
    table = write_numbers(tmp_path / "t", 24, title="age")
    assert shpeft.load_dataset(str(table), task="regression").classes == ("age",)
    data = shpeft.load_dataset(str(table), task="regression", columns={"label": "age [years]"})
    assert repr(data).endswith("test cases of age)")
    assert (data.classes, data.task.unit) == (("age",), "years")  # type: ignore[attr-defined]
    with pytest.raises(DatasetError, match="'weight' for the label"):
        shpeft.load_dataset(str(table), task="regression", columns={"label": "weight"})
    nameless = write_numbers(tmp_path / "u", 24, title="length")
    with pytest.raises(DatasetError, match="'value' or 'target' or 'age'"):
        shpeft.load_dataset(str(nameless), task="regression")


def test_what_needs_classes_is_refused(run: RunFolder, table: Path, tmp_path: Path) -> None:
    dataset = run.config.dataset.model_dump()
    with pytest.raises(ConfigError, match="task is regression, which has no classes"):
        carry_out(tmp_path / "miss", tiny(dataset=dataset, decision={"must_not_miss": "brightness"}))
    data = shpeft.load_dataset(**dataset)
    model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32, task=data.task)
    support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=10)
    for option in ({"balance": "loss"}, {"mixup": 0.2}, {"label_smoothing": 0.1}):
        with pytest.raises(TrainingError, match="regression"):
            list(shpeft.finetune(model, shpeft.SparseDelta.zeros(model, support), data, epochs=1, **option))
    from shpeft.batch.series import Series
    from shpeft.batch.series_rules import diagnose_series

    with shpeft.load_run(run, "cpu") as loaded:
        with pytest.raises(ConfigError, match="predicts a number"):
            diagnose_series(loaded, Series(()), "mean")
        diagnosis = shpeft.diagnose(loaded.backbone, data.test.image(0))
        assert "interval" not in diagnosis.answer.headline


def test_the_number_is_a_measurement_in_dicom(run: RunFolder) -> None:
    pydicom = pytest.importorskip("pydicom")
    from shpeft.reports.dicom import diagnose_dicom, dicom_results

    def numbers(report: Any) -> dict[str, tuple[float, str]]:
        measured: dict[str, tuple[float, str]] = {}
        for item in report.get("ContentSequence", ()):
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                unit = value.MeasurementUnitsCodeSequence[0]
                assert unit.CodingSchemeDesignator == "UCUM"
                name = str(item.ConceptNameCodeSequence[0].CodeMeaning)
                measured[name] = (float(value.NumericValue), str(unit.CodeValue))
            measured |= numbers(item)
        return measured

    def report_of(diagnosis: shpeft.Diagnosis) -> Any:
        return pydicom.dcmread(BytesIO(dicom_results(diagnosis, slice_of(), run).files["report"]))

    with shpeft.load_run(run, "cpu") as loaded:
        diagnosis, results = diagnose_dicom(loaded, run, slice_of())
        assert "report" in results.files
        answered = replace(diagnosis, ood=None, saliency=None)
        own = answered.estimate
        assert own is not None
        measured = numbers(report_of(answered))
        expected = {
            "brightness": own.value,
            "Lower end of 90 % interval: brightness": own.low,
            "Upper end of 90 % interval: brightness": own.high,
        }
        assert {name: value for name, (value, _) in measured.items()} == pytest.approx(expected)
        assert {unit for _, unit in measured.values()} == {"%"}
        unusual = replace(answered, ood=OODScore(9.0, 1.0, True))
        assert not unusual.answer.given
        refused = report_of(unusual)
        assert numbers(refused) == {}
        assert "No answer" in str(refused)
        assert f"{own.value:.3f}" not in str(refused)

"""A run of several findings an image, from a table to diagnoses, reports and batches."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import shpeft
from shpeft.batch import diagnose_batch, open_source
from shpeft.batch.worklist import in_order, worklist_rows
from shpeft.errors import DiagnosisError, ShpeftError
from shpeft.evaluation import DecisionRules, FindingReliability, ThresholdRule
from shpeft.evaluation.findings import evaluate_findings, of_finding
from shpeft.pipeline import evaluate_run
from shpeft.pipeline.evaluated_run import EvaluatedRun
from shpeft.pipeline.loaded_run import LoadedRun
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.tasks import MULTI_LABEL
from tests.helpers.finding_tables import FINDINGS, draw, write_findings
from tests.helpers.present import present


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("findings")
    config = shpeft.RunConfig.parse(
        {
            "dataset": {"source": str(write_findings(root / "images")), "cache": False},
            "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
            "selection": {"budget": 40, "images": 16},
            "training": {"epochs": 2},
            "decision": {"must_not_miss": "disc", "sensitivity": 0.8},
            "store_features": True,
        }
    )
    folder = RunFolder.create(root / "run", config)
    shpeft.run(config, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(finished: RunFolder) -> LoadedRun:
    return shpeft.load_run(finished, "cpu")


def test_every_finding_is_tested_by_itself(finished: RunFolder) -> None:
    test = finished.predictions.test()
    assert test.task == MULTI_LABEL
    assert test.classes == FINDINGS
    metrics = present(finished.metrics.read())
    assert metrics["finetuned"] == to_jsonable(evaluate_findings(test).to_dict())
    assert [row["name"] for row in metrics["finetuned"]["per_class"]] == list(FINDINGS)
    assert metrics["finetuned"]["macro_auroc"]["value"] > 0.8  # the findings are plain to see
    assert "balanced_accuracy" not in metrics["finetuned"]  # a task does not have what it lacks
    assert set(metrics["difference"]) == {"macro_auroc", "macro_average_precision", "brier"}
    assert "| Macro average precision |" in (finished.path / "README.md").read_text()


def test_predictions_and_reliability_are_read_as_written(finished: RunFolder) -> None:
    written = (finished.path / "predictions.csv").read_text()
    assert written.splitlines()[0].startswith("id,group,findings,finetuned:bar,")
    data = shpeft.load_dataset(**finished.config.dataset.model_dump(), seed=finished.config.seed)
    assert finished.predictions.test().labels == data.test.labels
    reliability = finished.reliability.read()
    assert isinstance(reliability, FindingReliability)
    assert reliability.must_not_miss == "disc"
    assert present(reliability.findings["bar"].operating).rule.rule == "youden"
    finished.reliability.write(reliability)
    assert finished.reliability.read() == reliability
    assert all(name in reliability.headline for name in FINDINGS)


def test_a_rule_of_one_finding_leaves_the_others(finished: RunFolder) -> None:
    before = finished.reliability.read()
    assert before is not None
    view = EvaluatedRun(finished, "bar")
    rules = DecisionRules(ThresholdRule("bar", "specificity", 0.9))
    changed = view.save(rules)
    assert changed.rules == rules
    after = finished.reliability.read()
    assert after is not None
    assert after.parts["disc"] == before.parts["disc"]
    assert view.reliability() == changed
    assert view.test().classes == ("no bar", "bar")
    finished.reliability.write(before)


def test_a_diagnosis_lists_every_finding(loaded: LoadedRun) -> None:
    diagnosis = shpeft.diagnose(
        loaded.backbone, draw(["disc"], 1), reliability=loaded.reliability, ood_detector=loaded.ood_detector
    )
    answer = diagnosis.answer
    assert [part.probability_of for part in answer.findings] == list(FINDINGS)
    raw = dict(zip(FINDINGS, diagnosis.probabilities, strict=True))
    assert 0 < sum(raw.values()) != pytest.approx(1)  # findings do not exclude each other
    assert isinstance(loaded.reliability, FindingReliability)
    for part in answer.findings:
        point = present(loaded.reliability.findings[part.probability_of].operating)
        assert part.threshold == point.threshold
        assert part.is_positive == (part.probability >= point.threshold)
        assert part.calibrated
    values = json.loads(json.dumps(to_jsonable(diagnosis.to_dict())))
    assert set(values["answer"]["findings"]) == set(values["judgement"]) == set(FINDINGS)
    assert len(answer.sentences) == 3


def test_an_image_of_another_kind_gets_no_answer_to_any_finding(loaded: LoadedRun) -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    answer = shpeft.diagnose(
        loaded.backbone, white, reliability=loaded.reliability, ood_detector=loaded.ood_detector
    ).answer
    assert answer.headline == "No answer"
    assert all(not part.given for part in answer.findings)


def test_the_map_is_of_the_finding_that_is_asked_for(loaded: LoadedRun) -> None:
    image = draw(["bar", "disc"], 3)
    maps = [shpeft.diagnose(loaded.backbone, image, method="saliency", target=name) for name in FINDINGS]
    assert [d.target for d in maps] == list(FINDINGS)
    assert not np.array_equal(present(maps[0].saliency).map, present(maps[1].saliency).map)
    with pytest.raises(DiagnosisError, match="no class"):
        shpeft.diagnose(loaded.backbone, image, method="saliency", target="no disc")


def test_a_batch_has_an_answer_a_probability_and_a_threshold_for_each(loaded: LoadedRun, tmp_path: Path) -> None:
    for number, findings in enumerate((["disc"], ["bar", "frame"], [])):
        draw(findings, 50 + number).save(tmp_path / f"{number}.png")
    out = tmp_path / "out.csv"
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with open_source([tmp_path]) as source:
        diagnose_batch(loaded, source, out)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(rows) == 4
    single = shpeft.diagnose(
        loaded.backbone,
        (tmp_path / "1.png").read_bytes(),
        reliability=loaded.reliability,
        ood_detector=loaded.ood_detector,
    )
    for name, p, part in zip(FINDINGS, single.shown, single.answer.findings, strict=True):
        assert float(rows[1][f"probability:{name}"]) == p
        assert float(rows[1][f"threshold:{name}"]) == part.threshold
    assert {row["threshold_class"] for row in rows} == {"disc", ""}
    cases = worklist_rows(out.read_text())
    assert cases[0].urgency == float(rows[0]["probability:disc"])
    assert in_order(cases, "urgency")[-1].error
    assert "predicted" not in rows[0]


def test_a_report_has_a_table_for_each_finding(finished: RunFolder, loaded: LoadedRun) -> None:
    image = draw(["disc"], 9)
    diagnosis = shpeft.diagnose(
        loaded.backbone, image, method="saliency", target="disc", reliability=loaded.reliability
    )
    html = shpeft.report(diagnosis, image, finished)
    for name in FINDINGS:
        assert f"no {name}" in html
    assert "Calibration and decision rules: bar" in html
    assert "Research use only" in html


def test_another_site_may_lack_a_finding_and_have_others(finished: RunFolder, tmp_path: Path) -> None:
    table = write_findings(tmp_path / "site", 30, seed=7)
    text = table.read_text().replace("frame", "rib")
    table.write_text(text)
    predictions, metrics = evaluate_run(finished, str(table), device="cpu")
    assert len(predictions.ids) == 30
    assert {row["name"]: row["known"] for row in metrics["finetuned"]["per_class"]}["frame"] == 0
    assert {row["name"]: row["known"] for row in metrics["internal"]["per_class"]}["frame"] == 0
    assert any("rib" in warning for warning in metrics["warnings"])
    assert of_finding(predictions, "disc").classes == ("no disc", "disc")


def test_what_the_task_does_not_have_is_refused(loaded: LoadedRun, finished: RunFolder) -> None:
    with pytest.raises(ShpeftError, match="evaluate_findings"):
        shpeft.evaluate(finished.predictions.test())
    data = shpeft.load_dataset(**finished.config.dataset.model_dump())
    with pytest.raises(DiagnosisError, match="name the one"):
        shpeft.localize(loaded.backbone, data.test)

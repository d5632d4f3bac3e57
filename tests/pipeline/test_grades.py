"""A run of ordered classes, from a table to a diagnosis."""

from pathlib import Path

import pytest

import shpeft
from shpeft.errors import TrainingError
from shpeft.pipeline import evaluate_run
from shpeft.runs import RunFolder
from shpeft.tasks import ORDINAL

CONFIG = {
    "dataset": {"source": "phantom:fundus?n=36&size=32", "task": "ordinal"},
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "selection": {"budget": 40, "images": 8},
    "training": {"epochs": 1},
    "decision": {"must_not_miss": "exudates", "sensitivity": 0.5},
}


def test_grades_go_from_the_setting_to_the_diagnosis(tmp_path: Path) -> None:
    config = shpeft.RunConfig.parse(CONFIG)
    folder = RunFolder.create(tmp_path / "grades", config)
    metrics = shpeft.run(config, folder)
    assert {"quadratic_kappa", "grade_error", "balanced_accuracy"} <= metrics["finetuned"].keys()
    assert "quadratic_kappa" in metrics["difference"]
    assert folder.predictions.test().task == ORDINAL
    assert "| Quadratic weighted kappa |" in (folder.path / "README.md").read_text()
    reliability = folder.reliability.read()
    assert reliability is not None
    assert reliability.headline
    with shpeft.load_run(folder, "cpu") as loaded:
        assert loaded.backbone.task == ORDINAL
        image = shpeft.load_dataset("phantom:fundus?n=36&size=32").test.image(0)
        diagnosis = shpeft.diagnose(loaded.backbone, image, reliability=loaded.reliability)
        assert sum(diagnosis.probabilities) == pytest.approx(1)
        assert diagnosis.answer.probability_of == "exudates"
    _, external = evaluate_run(folder, "phantom:fundus?n=36&size=32&seed=5", device="cpu")
    assert "quadratic_kappa" in external["drop"]


def test_a_delta_of_grades_is_not_one_of_classes(tmp_path: Path) -> None:
    data = shpeft.load_dataset("phantom:fundus?n=36&size=32", task="ordinal")
    model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32, task=data.task)
    support = shpeft.select(shpeft.estimate_importance(model, data.train, "magnitude"), budget=10)
    path = shpeft.save_delta(shpeft.SparseDelta.zeros(model, support), tmp_path / "delta.safetensors")
    delta = shpeft.load_delta(path, base=model)
    assert delta.task == ORDINAL
    plain = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
    with pytest.raises(shpeft.ShpeftError, match="is of the task ordinal"), delta.applied(plain):
        pass
    with pytest.raises(TrainingError):
        list(shpeft.finetune(model, delta, data, epochs=1, label_smoothing=0.1))

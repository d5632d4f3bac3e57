"""A run from its configuration to its results, and runs that fail or are cancelled."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from shpeft import equations, pipeline
from shpeft.backbones import create_backbone
from shpeft.datasets import load_dataset
from shpeft.delta.file import load_delta, read_header
from shpeft.errors import Cancelled, ClassMismatch, SelectionError, ShpeftError
from shpeft.evaluation import DecisionRules, SetRule, ThresholdRule, by_subgroup, fit_reliability
from shpeft.evaluation.metrics import difference, evaluate
from shpeft.evaluation.ood_features import image_features
from shpeft.evaluation.predict import predict
from shpeft.pipeline import weight_training
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.setup import set_up
from shpeft.pipeline.weight_selection import score_and_select
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import silent
from shpeft.training.loop import EpochReport, finetune
from tests.helpers.image_folders import build_folder
from tests.helpers.present import present
from tests.helpers.run_metrics import metrics_of
from tests.pipeline.conftest import carry_out, names, tiny

RESULTS = {
    "delta.safetensors", "metrics.json", "predictions.csv", "README.md", "predictions_val.csv", "trust.json",
    "novelty.safetensors", "novelty.csv", "probe.safetensors",
}  # fmt: skip


# -- a run that succeeds


def test_a_finished_run_writes_every_file(finished: RunFolder) -> None:
    assert names(finished) == RESULTS | {
        ".lock", "config.yaml", "details.npz", "environment.json", "importance.npz", "metrics.jsonl", "state.json",
        "support.safetensors",
    }  # fmt: skip
    assert finished.state.status == "finished"
    assert [report.epoch for report in finished.history.read()] == [0, 1, 2]
    assert finished.scores.support().k == 40
    assert {
        which for which in ("hybrid", "task-specific", "task-agnostic") if finished.scores.summaries(which)
    } != set()


def test_metrics_are_those_of_the_predictions(finished: RunFolder) -> None:
    metrics, tuned, probe = metrics_of(finished), finished.predictions.test(), finished.predictions.test("probe")
    assert metrics["finetuned"] == to_jsonable(evaluate(tuned).to_dict())
    assert metrics["probe"] == to_jsonable(evaluate(probe).to_dict())
    assert metrics["difference"] == to_jsonable(difference(tuned, probe))
    assert metrics["finetuned"]["cases"] == len(tuned.ids) == 12
    weights = metrics["weights"]
    assert weights["selected"] == 40
    assert weights["share"] == 40 / weights["backbone"]
    assert weights["share_with_head"] == (40 + weights["head"]) / (weights["backbone"] + weights["head"])
    assert weights["delta_bytes"] == finished.delta_path.stat().st_size


def test_fine_tuning_changes_the_predictions_of_the_probe(finished: RunFolder) -> None:
    tuned, probe = finished.predictions.test().probabilities, finished.predictions.test("probe").probabilities
    assert not np.allclose(tuned, probe)


def test_the_same_seed_gives_the_same_file(finished: RunFolder, tmp_path: Path) -> None:
    again = carry_out(tmp_path / "elsewhere")
    for file in ("delta.safetensors", "support.safetensors", "predictions.csv", "config.yaml"):
        assert (again.path / file).read_bytes() == (finished.path / file).read_bytes(), file
    other = carry_out(tmp_path / "other", tiny(seed=1))
    assert other.delta_path.read_bytes() != finished.delta_path.read_bytes()


def test_a_loaded_run_reproduces_its_predictions(finished: RunFolder) -> None:
    loaded = pipeline.load_run(finished, "cpu")
    _, again = pipeline.evaluate_run(finished, device="cpu")
    assert to_jsonable(again["finetuned"]) == metrics_of(finished)["finetuned"]
    base = create_backbone(
        "test_vit", classes=loaded.backbone.classes, weights="random", image_size=32, seed=finished.config.seed
    )
    delta = load_delta(finished.delta_path, base)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), delta.applied(base):
        assert torch.equal(base(x), loaded.backbone(x))


def test_the_model_card_has_its_statements_and_no_local_path(finished: RunFolder) -> None:
    card = (finished.path / "README.md").read_text()
    assert "Research use only, not a medical device." in card
    assert f"{metrics_of(finished)['finetuned']['macro_auroc']['value']:.3f} [" in card
    assert r"phantom\:fundus" in card  # shown as text
    assert "shpeft.load_delta" in card
    assert str(finished.path.parent) not in card


def test_a_delta_contains_no_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes = ("healthy", "haemorrhages", "exudates")
    module = create_backbone("test_vit", classes=classes, weights="random", image_size=32, seed=3).module
    save_file(module.state_dict(), tmp_path / "base.safetensors")
    folder = carry_out(Path("runs/local"), tiny(backbone={"weights": "base.safetensors"}))
    assert str(tmp_path).encode() not in folder.delta_path.read_bytes()
    monkeypatch.chdir("/")
    assert (
        pipeline.load_run(RunFolder.open(tmp_path / "runs/local"), "cpu").header["weights"].endswith("base.safetensors")
    )
    shutil.move(tmp_path / "base.safetensors", tmp_path / "moved.safetensors")
    with pytest.raises(ShpeftError, match="no file"):
        pipeline.load_run(RunFolder.open(tmp_path / "runs/local"), "cpu")
    assert (
        pipeline.load_run(
            RunFolder.open(tmp_path / "runs/local"), "cpu", weights=str(tmp_path / "moved.safetensors")
        ).delta.k
        == 40
    )


def test_progress_covers_the_whole_run(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    epochs: list[EpochReport] = []
    carry_out(
        tmp_path / "run", progress=lambda stage, done, total: seen.append((stage, done, total)), on_epoch=epochs.append
    )
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == [
        "Reading the images",
        "Loading the backbone",
        "Fitting the linear probe",
        "Testing the linear probe",
        "Scoring the weights",
        "Selecting the weights",
        "Fine-tuning, epoch 1 of 2",
        "Fine-tuning, epoch 2 of 2",
        "Testing",
        "Calibrating",
    ]
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][2] > 0
    assert len({total for _, _, total in seen if total}) == 1
    assert [report.epoch for report in epochs] == [0, 1, 2]


def test_scores_without_halves_and_without_images(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "run", tiny(selection={"score": "magnitude"}, training={"epochs": 1}))
    assert folder.scores.support().k == 40
    with pytest.raises(ShpeftError, match="not task-specific"):
        folder.scores.support("task-specific")


# -- reliability


def test_a_run_stores_its_validation_predictions_and_calibration(finished: RunFolder) -> None:
    loaded = pipeline.load_run(finished, "cpu")
    data = load_dataset(**finished.config.dataset.model_dump(), seed=finished.config.seed)
    again = predict(loaded.backbone, data.val)
    validation, reliability = finished.predictions.validation(), finished.reliability.read()
    assert validation is not None
    assert validation.ids == data.val.ids
    assert np.array_equal(validation.probabilities, again.probabilities)
    distances = finished.reliability.distances()
    assert reliability == fit_reliability(validation, test=finished.predictions.test(), distances=distances)
    assert loaded.ood_detector is not None
    assert (loaded.reliability, loaded.ood_detector.cases) == (reliability, len(data.val))
    blocks = loaded.ood_detector.blocks
    features = image_features(loaded.backbone, [data.val.image(row) for row in range(len(data.val))], blocks)
    stored = present(distances)
    assert stored.validation == pytest.approx(loaded.ood_detector.distances(features), rel=1e-4)
    assert stored.validation.max() == pytest.approx(loaded.ood_detector.reference[-1], rel=1e-4)
    assert len(stored.test) == len(data.test)
    assert "photographs" in stored.others


def test_decision_rules_are_stored_and_invalid_ones_change_nothing(finished: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "copy"))
    rules = DecisionRules(ThresholdRule("exudates", "sensitivity", 0.8), SetRule("aps", 0.8, True), None)
    reliability = pipeline.set_decision_rules(folder, rules)
    assert folder.reliability.read() == reliability
    assert reliability.rules == rules
    assert reliability.operating is not None
    assert reliability.operating.validation.sensitivity.value >= 0.8
    assert f"Threshold for exudates: {reliability.operating.threshold:.3f}" in (folder.path / "README.md").read_text()
    before = (folder.path / "trust.json").read_bytes()
    with pytest.raises(ClassMismatch, match="exudates"):
        pipeline.set_decision_rules(folder, DecisionRules(ThresholdRule("exudate")))
    assert (folder.path / "trust.json").read_bytes() == before


def test_a_run_of_an_older_version_opens_and_can_be_calibrated(finished: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "old"))
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors", "novelty.csv"):
        (folder.path / name).unlink()
    loaded = pipeline.load_run(folder, "cpu")
    missing = [loaded.reliability, loaded.ood_detector, folder.reliability.read(), folder.predictions.validation()]
    assert missing == [None] * 4
    with pytest.raises(ShpeftError, match="shpeft calibrate"):
        pipeline.set_decision_rules(folder, DecisionRules())
    assert pipeline.calibrate_run(folder, device="cpu") == finished.reliability.read() == folder.reliability.read()
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors", "novelty.csv"):
        assert (folder.path / name).read_bytes() == (finished.path / name).read_bytes(), name


@pytest.mark.parametrize("name", ["trust.json", "novelty.safetensors", "novelty.csv", "predictions_val.csv"])
def test_a_damaged_reliability_file_is_reported(finished: RunFolder, tmp_path: Path, name: str) -> None:
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "damaged"))
    readers: dict[str, Callable[[], object]] = {
        "trust.json": folder.reliability.read,
        "novelty.safetensors": folder.reliability.detector,
        "novelty.csv": folder.reliability.distances,
        "predictions_val.csv": folder.predictions.validation,
    }
    for content in (b"", b"{}", (folder.path / name).read_bytes()[:300]):
        (folder.path / name).write_bytes(content)
        with pytest.raises(ShpeftError, match=f"damaged is damaged: {name}"):
            readers[name]()


def test_subgroups_come_from_a_column_of_the_table(tmp_path: Path) -> None:
    rows = ["path,label,split,site"]
    data = load_dataset("phantom:fundus?n=36&size=32")
    for split in data.splits:
        for i, label in enumerate(split.labels):
            split.image(i).save(tmp_path / f"{split.name}{i}.png")
            rows.append(f"{split.name}{i}.png,{split.classes[label]},{split.name},{('north', 'south')[i % 2]}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    folder = carry_out(tmp_path / "run", tiny(dataset={"source": str(tmp_path / "images.csv")}, training={"epochs": 1}))
    subgroups = by_subgroup(folder.predictions.test(), resamples=5)
    assert [(part.name, part.metrics.cases) for part in subgroups] == [("north", 6), ("south", 6)]
    assert folder.predictions.test("probe").subgroups == folder.predictions.test().subgroups


# -- runs that fail or are cancelled


@pytest.mark.parametrize(
    "stage", ["Reading", "Fitting", "Testing the", "Scoring", "Fine-tuning, epoch 2", "Testing", "Calibrating"]
)
def test_a_cancelled_run_has_no_results(tmp_path: Path, stage: str) -> None:
    def stop(now: str, done: int, total: int) -> None:
        if now.startswith(stage):
            raise Cancelled

    with pytest.raises(Cancelled):
        carry_out(tmp_path / "run", progress=stop)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.status == "cancelled"
    assert not names(folder) & RESULTS
    assert not [name for name in names(folder) if name.endswith(".tmp")]
    with pytest.raises(ShpeftError, match="is cancelled, and only finished runs"):
        pipeline.load_run(folder)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"dataset": {"source": "phantom:fundsu"}}, "phantom:fundus"),
        ({"backbone": {"name": "test_vitt"}}, "test_vit"),
        ({"selection": {"budget": 10**9}}, "more than"),
        ({"training": {"lr": 1e30}}, "loss"),
    ],
)
def test_an_input_error_is_recorded_in_the_run_folder(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ShpeftError, match=said):
        carry_out(tmp_path / "run", tiny(**sections))
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.status == "failed"
    assert said in folder.state.read().message
    assert not names(folder) & (RESULTS | {"error.log"})


def test_a_bug_writes_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = "/scans/Doe.png"

    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError(f"in {image}")

    monkeypatch.setattr(weight_training, "finetune", broken)
    with pytest.raises(ZeroDivisionError):
        carry_out(tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.status == "failed"
    assert "bug" in folder.state.read().message
    log = (folder.path / "error.log").read_text()
    assert "weight_training.py" in log
    assert "Doe" not in log


def test_a_run_that_gets_worse_keeps_the_probe_and_says_so(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "run", tiny(training={"lr": 1e3, "head_lr": 1e3, "epochs": 2}))
    metrics = folder.metrics.read()
    assert metrics is not None
    assert metrics["training"]["best_epoch"] == 0
    assert metrics["training"]["epochs"] == 2
    assert folder.state.read().message.startswith("Fine-tuning brought nothing")
    tuned, probe = (folder.predictions.test(name).probabilities for name in ("finetuned", "probe"))
    np.testing.assert_array_equal(tuned, probe)
    assert "no epoch was better than the start" in (folder.path / "README.md").read_text()


def test_steps_by_sensitivity_are_those_of_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Any] = []

    def watched(*args: Any, **options: Any) -> Any:
        received.append(options["lr_scale"])
        return finetune(*args, **options)

    monkeypatch.setattr(weight_training, "finetune", watched)
    folder = carry_out(tmp_path / "run", tiny(training={"lr_scale": "sensitivity", "average": "last_quarter"}))
    setup = set_up(folder.config, RunProgress(silent), tmp_path)
    scores = score_and_select(folder.config, setup).scores
    assert scores.halves is not None
    support = folder.scores.support()
    g = torch.cat([scores.halves[0].values[name].reshape(-1)[index] for name, index in support.indices.items()])
    assert torch.equal(received[0], equations.sensitivity_scale(g.square()))
    with pytest.raises(SelectionError, match="hybrid, gradient or fisher"):
        carry_out(tmp_path / "other", tiny(selection={"score": "random"}, training={"lr_scale": "sensitivity"}))


def test_a_run_records_the_arguments_of_its_model(tmp_path: Path) -> None:
    module = timm.create_model("test_vit", num_classes=0, img_size=32, init_values=0.1)
    save_file(module.state_dict(), tmp_path / "layerscale.safetensors")
    settings = {"weights": str(tmp_path / "layerscale.safetensors"), "model_args": {"init_values": 0.1}, "std": 0.25}
    folder = carry_out(tmp_path / "run", tiny(backbone=settings, training={"epochs": 1}))
    header = read_header(folder.delta_path)
    assert header["model_args"] == header["config"]["backbone"]["model_args"] == ["init_values=0.1"]
    assert header["transform"]["std"] == [0.25, 0.25, 0.25]
    assert "no config.json beside it" in folder.state.read().message
    assert 'model_args=["init_values=0.1"]' in (folder.path / "README.md").read_text().replace("'", '"')
    with pipeline.load_run(RunFolder.open(folder.path), "cpu") as loaded:
        assert "blocks.0.ls1.gamma" in loaded.backbone.parameters
        assert loaded.backbone.transform.std == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("budget", ["100%", 10**6, 1e-9])
def test_a_budget_that_does_not_fit_is_refused_before_the_probe(
    budget: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shpeft.pipeline.setup.fit_linear_probe", lambda *_, **__: pytest.fail("a probe was fitted"))
    with pytest.raises(SelectionError, match=r"eligible|more than the backbone|selects none"):
        carry_out(tmp_path / "run", tiny(selection={"budget": budget}))


def test_all_weights_of_the_backbone_may_be_trained(tmp_path: Path) -> None:
    folder = carry_out(tmp_path / "run", tiny(selection={"budget": "100%", "scope": "all"}, training={"epochs": 1}))
    metrics = folder.metrics.read()
    assert metrics is not None
    assert metrics["weights"]["selected"] == metrics["weights"]["backbone"] == 300_096


def test_training_options_reach_the_training_and_an_unknown_modality_is_said(tmp_path: Path) -> None:
    options: dict[str, Any] = {"augment": "light", "mixup": 0.2, "label_smoothing": 0.1, "balance": "loss", "epochs": 1}
    values = []
    for name, chosen in {"plain": {"epochs": 1}, "varied": options, "as general": options}.items():
        training = chosen | ({"modality": "ct"} if name == "as general" else {})
        folder = carry_out(tmp_path / name.replace(" ", "-"), tiny(training=training, selection={"scope": "last:25%"}))
        assert "--modality" not in (folder.state.read().message or "")  # the phantom's card says fundus
        values.append((folder.delta_path.read_bytes(), folder.history.read()[-1].loss))
    assert len(set(values)) == 3
    images = build_folder(tmp_path / "images", {"a": 12, "b": 12})
    folder = carry_out(tmp_path / "unknown", tiny(dataset={"source": str(images)}, training=options))
    assert "names no modality: augmentation kept sides and colors" in folder.state.read().message

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shpeft import pipeline
from shpeft.backbones import create_backbone
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset
from shpeft.deltafile import load_delta
from shpeft.errors import Cancelled, ClassMismatch, ShpeftError
from shpeft.evaluation import difference, evaluate, predict
from shpeft.feed import Feed
from shpeft.probe import extract_features
from shpeft.runs import RunFolder
from shpeft.runs.formats import plain
from shpeft.trust import Choices, SetRule, ThresholdRule, by_subgroup, fit_trust

TINY = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "dataset": {"source": "phantom:fundus?n=48&size=32"},
    "selection": {"budget": 40, "images": 16},
    "training": {"epochs": 2, "batch_size": 8},
    "device": "cpu",
}
RESULTS = {
    "delta.safetensors", "metrics.json", "predictions.csv", "README.md", "predictions_val.csv", "trust.json",
    "novelty.safetensors",
}  # fmt: skip


def tiny(**sections) -> RunConfig:
    return RunConfig.parse(
        {
            **TINY,
            **{
                name: {**TINY.get(name, {}), **value} if isinstance(value, dict) else value
                for name, value in sections.items()
            },
        }
    )


def carry_out(path: Path, config: RunConfig | None = None, **options) -> RunFolder:
    folder = RunFolder.create(path, config or tiny())
    pipeline.run(folder.config, folder, **options)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    folder = carry_out(tmp_path_factory.mktemp("runs") / "finished")
    return RunFolder.open(folder.path)


def names(folder: RunFolder) -> set[str]:
    return {entry.name for entry in folder.path.iterdir()}


# -- a run that goes well


def test_a_run_leaves_the_whole_folder(finished):
    assert names(finished) == RESULTS | {
        ".lock", "config.yaml", "details.npz", "environment.json", "importance.npz", "metrics.jsonl", "state.json",
        "support.safetensors",
    }  # fmt: skip
    assert finished.state.status == "finished"
    assert [report.epoch for report in finished.history()] == [1, 2]
    assert finished.support().k == 40
    assert {which for which in ("hybrid", "task-specific", "task-agnostic") if finished.summaries(which)} != set()


def test_metrics_are_those_of_the_predictions(finished):
    metrics, tuned, probe = finished.metrics(), finished.predictions(), finished.predictions("probe")
    assert metrics["finetuned"] == plain(evaluate(tuned).to_dict())
    assert metrics["probe"] == plain(evaluate(probe).to_dict())
    assert metrics["difference"] == plain(difference(tuned, probe))
    assert metrics["finetuned"]["cases"] == len(tuned.ids) == 16
    weights = metrics["weights"]
    assert weights["selected"] == 40
    assert weights["share"] == 40 / weights["backbone"]
    assert weights["share_with_head"] == (40 + weights["head"]) / (weights["backbone"] + weights["head"])
    assert weights["delta_bytes"] == finished.delta_path.stat().st_size


def test_the_probe_is_the_start_and_not_the_result(finished):
    tuned, probe = finished.predictions().probabilities, finished.predictions("probe").probabilities
    assert not np.allclose(tuned, probe)


def test_the_same_seed_gives_the_same_file(finished, tmp_path):
    again = carry_out(tmp_path / "elsewhere")
    for file in ("delta.safetensors", "support.safetensors", "predictions.csv", "config.yaml"):
        assert (again.path / file).read_bytes() == (finished.path / file).read_bytes(), file
    other = carry_out(tmp_path / "other", tiny(seed=1))
    assert other.delta_path.read_bytes() != finished.delta_path.read_bytes()


def test_a_loaded_run_predicts_what_the_run_predicted(finished):
    loaded = pipeline.load_run(finished, "cpu")
    _, again = pipeline.evaluate_run(finished, device="cpu")
    assert plain(again["finetuned"]) == finished.metrics()["finetuned"]
    base = create_backbone(
        "test_vit", classes=loaded.backbone.classes, weights="random", image_size=32, seed=finished.config.seed
    )
    delta = load_delta(finished.delta_path, base)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), delta.applied(base):
        assert torch.equal(base(x), loaded.backbone(x))


def test_the_card_says_what_it_must_and_no_place(finished):
    card = (finished.path / "README.md").read_text()
    assert "Research use only, not a medical device." in card
    assert f"{finished.metrics()['finetuned']['macro_auroc']['value']:.3f} [" in card
    assert "phantom:fundus" in card
    assert "shpeft.load_delta" in card
    assert str(finished.path.parent) not in card


def test_a_delta_says_nothing_of_places(tmp_path, monkeypatch):
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


def test_progress_covers_the_whole_run(tmp_path):
    seen, epochs = [], []
    carry_out(tmp_path / "run", progress=lambda *step: seen.append(step), on_epoch=epochs.append)
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == [
        "Reading the images",
        "Loading the backbone",
        "Fitting the linear probe",
        "Testing the linear probe",
        "Scoring the weights",
        "Choosing the weights",
        "Fine-tuning, epoch 1 of 2",
        "Fine-tuning, epoch 2 of 2",
        "Testing",
        "Calibrating",
    ]
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][2] > 0
    assert len({total for _, _, total in seen if total}) == 1
    assert [report.epoch for report in epochs] == [1, 2]


def test_scores_without_halves_and_without_images(tmp_path):
    folder = carry_out(tmp_path / "run", tiny(selection={"score": "magnitude"}, training={"epochs": 1}))
    assert folder.support().k == 40
    with pytest.raises(ShpeftError, match="not task-specific"):
        folder.support("task-specific")


# -- how far to believe it


def test_a_run_keeps_what_its_validation_images_say(finished):
    loaded = pipeline.load_run(finished, "cpu")
    data = load_dataset(**finished.config.dataset.model_dump(), seed=finished.config.seed)
    again = predict(loaded.backbone, data.val)
    validation, trust = finished.validation(), finished.trust()
    assert validation.ids == data.val.ids
    assert np.array_equal(validation.probabilities, again.probabilities)
    assert trust == fit_trust(validation, test=finished.predictions())
    assert (loaded.trust, loaded.novelty.cases) == (trust, len(data.val))
    features, _ = extract_features(Feed(loaded.backbone), data.val)
    assert loaded.novelty.distances(features).max() == pytest.approx(loaded.novelty.reference[-1], rel=1e-4)


def test_choices_are_kept_and_wrong_ones_change_nothing(finished, tmp_path):
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "copy"))
    choices = Choices(ThresholdRule("exudates", "sensitivity", 0.8), SetRule("aps", 0.8, True), None)
    trust = pipeline.choose_trust(folder, choices)
    assert folder.trust() == trust
    assert trust.choices == choices
    assert trust.operating.validation.sensitivity.value >= 0.8
    assert f"Threshold for exudates: {trust.operating.threshold:.3f}" in (folder.path / "README.md").read_text()
    before = (folder.path / "trust.json").read_bytes()
    with pytest.raises(ClassMismatch, match="exudates"):
        pipeline.choose_trust(folder, Choices(ThresholdRule("exudate")))
    assert (folder.path / "trust.json").read_bytes() == before


def test_a_run_of_an_older_version_opens_and_can_be_looked_at_anew(finished, tmp_path):
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "old"))
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors"):
        (folder.path / name).unlink()
    loaded = pipeline.load_run(folder, "cpu")
    assert loaded.trust is loaded.novelty is folder.trust() is folder.validation() is None
    with pytest.raises(ShpeftError, match="shpeft calibrate"):
        pipeline.choose_trust(folder, Choices())
    assert pipeline.look_again(folder, device="cpu") == finished.trust() == folder.trust()
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors"):
        assert (folder.path / name).read_bytes() == (finished.path / name).read_bytes(), name


@pytest.mark.parametrize("name", ["trust.json", "novelty.safetensors", "predictions_val.csv"])
def test_a_damaged_file_of_trust_is_a_sentence(finished, tmp_path, name):
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "damaged"))
    for content in (b"", b"{}", (folder.path / name).read_bytes()[:300]):
        (folder.path / name).write_bytes(content)
        with pytest.raises(ShpeftError, match=f"damaged is damaged: {name}"):
            {"trust.json": folder.trust, "novelty.safetensors": folder.novelty}.get(name, folder.validation)()


def test_a_table_says_which_subgroup_a_case_is_of(tmp_path):
    rows = ["path,label,split,site"]
    data = load_dataset("phantom:fundus?n=36&size=32")
    for split in data.splits:
        for i, label in enumerate(split.labels):
            split.image(i).save(tmp_path / f"{split.name}{i}.png")
            rows.append(f"{split.name}{i}.png,{split.classes[label]},{split.name},{('north', 'south')[i % 2]}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    folder = carry_out(tmp_path / "run", tiny(dataset={"source": str(tmp_path / "images.csv")}, training={"epochs": 1}))
    found = by_subgroup(folder.predictions(), resamples=5)
    assert [(part.name, part.metrics.cases) for part in found] == [("north", 6), ("south", 6)]
    assert folder.predictions("probe").subgroups == folder.predictions().subgroups


# -- a run that does not


@pytest.mark.parametrize(
    "stage", ["Reading", "Fitting", "Testing the", "Scoring", "Fine-tuning, epoch 2", "Testing", "Calibrating"]
)
def test_a_cancelled_run_presents_nothing_as_finished(tmp_path, stage):
    def stop(now, done, total):
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
def test_bad_input_is_a_sentence_in_the_folder(tmp_path, sections, said):
    with pytest.raises(ShpeftError, match=said):
        carry_out(tmp_path / "run", tiny(**sections))
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.status == "failed"
    assert said in folder.state.message
    assert not names(folder) & (RESULTS | {"error.log"})


def test_a_bug_leaves_a_log(tmp_path, monkeypatch):
    image = "/scans/Doe.png"

    def broken(*args, **options):
        raise ZeroDivisionError(f"in {image}")

    monkeypatch.setattr(pipeline.recipe, "finetune", broken)
    with pytest.raises(ZeroDivisionError):
        carry_out(tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert folder.state.status == "failed"
    assert "bug" in folder.state.message
    log = (folder.path / "error.log").read_text()
    assert "pipeline.py" in log
    assert "Doe" not in log


# -- helpers

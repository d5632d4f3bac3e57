"""The verbs that read a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft


def test_importance_of_a_run(tiny_run: Path, tmp_path: Path) -> None:
    result = shpeft("importance", tiny_run, "--csv", tmp_path / "layers.csv", "--npz", tmp_path / "layers.npz")
    assert result.stdout.splitlines()[0].split()[:3] == ["selected", "attn.qkv", "attn.proj"]
    rows = [line.split(",") for line in (tmp_path / "layers.csv").read_text().splitlines()]
    assert sum(int(row[rows[0].index("selected")]) for row in rows[1:]) == 40
    with np.load(tmp_path / "layers.npz") as archive:
        assert archive["hybrid/selected"].sum() == 40
    printed = json.loads(shpeft("importance", tiny_run, "--which", "task-agnostic", "--json").stdout)
    assert sum(layer["selected"] for layer in printed) == 40
    assert 'Did you mean "density"' in shpeft("importance", tiny_run, "--quantity", "densitty", code=2).stderr
    assert "leave out --budget" in shpeft("importance", tiny_run, "--budget", "9", code=2).stderr


def test_importance_without_a_run(tiny_run: Path, tiny_yaml: Path) -> None:
    direct = shpeft("importance", "--config", tiny_yaml).stdout
    assert direct == shpeft("importance", tiny_run).stdout
    assert "--epochs has no effect" in shpeft("importance", "--config", tiny_yaml, "--epochs", "3", code=2).stderr


def test_overlap(tiny_run: Path, tmp_path: Path, tiny_yaml: Path) -> None:
    output = shpeft("overlap", tiny_run).stdout
    assert "task-specific and task-agnostic" in output
    assert "by chance" in output
    shpeft("finetune", "--config", tiny_yaml, "--score", "random", "--epochs", 1, "--out", tmp_path / "random")
    printed = json.loads(shpeft("overlap", tiny_run, tmp_path / "random", "--json").stdout)
    assert list(printed) == ["busi: task-specific and task-agnostic", "busi and random"]
    assert 0 <= printed["busi and random"]["p_value"] <= 1


def test_evaluate_repeats_the_numbers(tiny_run: Path) -> None:
    printed = json.loads(shpeft("evaluate", tiny_run, "--device", "cpu", "--json").stdout)
    metrics = RunFolder.open(tiny_run).metrics.read()
    assert metrics is not None
    assert printed["finetuned"] == metrics["finetuned"]
    assert "Balanced accuracy" in shpeft("evaluate", tiny_run, "--data", "phantom:fundus?n=30&size=32").stdout
    assert "classes" in shpeft("evaluate", tiny_run, "--data", "phantom:ultrasound?n=30&size=32", code=2).stderr


@pytest.mark.parametrize("verb", ["overlap", "evaluate", "importance", "diagnose"])
def test_a_folder_without_a_run_is_refused(verb: str, tmp_path: Path) -> None:
    images = [tmp_path / "x.png"] if verb == "diagnose" else []
    assert "no run folder" in shpeft(verb, tmp_path / "none", *images, code=2).stderr


# -- diagnose


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    image.save(tmp_path / "Doe_Jane.jpg", exif=exif)
    return tmp_path / "Doe_Jane.jpg"


def test_diagnose_writes_files_without_the_images_name(
    tiny_run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shpeft.explanation.saliency.Sanity.withheld", "")
    result = shpeft("diagnose", tiny_run, scan, "--saliency", "integrated_gradients", "--out", tmp_path / "out")
    assert "Research use only, not a medical device." in result.stdout
    assert "%" in result.stdout
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name.split("_")[0] for name in written] == ["0001", "0001"]
    assert [Path(name).suffix for name in written] == [".json", ".png"]
    for path in (tmp_path / "out").iterdir():
        assert b"Doe" not in path.read_bytes()
    assert "Doe" not in result.stdout
    entry = json.loads((tmp_path / "out" / written[0]).read_text())
    assert entry["run"] == "busi"
    assert entry["notice"] == "Research use only, not a medical device."
    assert sum(entry["probabilities"].values()) == pytest.approx(1)
    with Image.open(tmp_path / "out" / written[1]) as overlay:
        assert overlay.size == (60, 40)


def test_diagnose_withholds_a_map_that_fails_its_check(
    tiny_run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shpeft.explanation.saliency.Sanity.follows_the_weights", False)
    result = shpeft("diagnose", tiny_run, scan, "--saliency", "saliency", "--out", tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    entry = json.loads(written.read_text())
    assert "No map is shown, because it fails its sanity check" in entry["withheld"]
    assert entry["withheld"] in result.stdout
    assert entry["sanity"]["follows_the_weights"] is False


def test_diagnose_continues_after_a_damaged_image(tiny_run: Path, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    result = shpeft("diagnose", tiny_run, tmp_path / "bad.png", scan, "--json", code=2)
    assert "bad.png" in result.stderr
    assert [entry["id"].split("_")[0] for entry in json.loads(result.stdout)] == ["0002"]
    assert "bad.png" in shpeft("diagnose", tiny_run, tmp_path / "bad.png", code=2).stderr


def test_diagnose_needs_images_and_a_folder_to_write_to(tiny_run: Path, scan: Path, tmp_path: Path) -> None:
    assert "cannot be made" in shpeft("diagnose", tiny_run, scan, "--out", scan, code=2).stderr
    shpeft("diagnose", tiny_run, tmp_path, code=2)
    shpeft("diagnose", tiny_run, tmp_path / "none.png", code=2)


@pytest.mark.parametrize("flags", [["--saliency", "integrated_gradient"], ["--target", "no such class"]])
def test_diagnose_refuses_unknown_methods_and_classes(
    tiny_run: Path, scan: Path, flags: list[Any], tmp_path: Path
) -> None:
    shpeft("diagnose", tiny_run, scan, *flags, "--out", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()

"""The verbs that read a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft.runs import RunFolder

from .commands import shpeft


def test_importance_of_a_run(tiny_run, tmp_path):
    result = shpeft("importance", tiny_run, "--csv", tmp_path / "layers.csv", "--npz", tmp_path / "layers.npz")
    assert result.stdout.splitlines()[0].split()[:3] == ["selected", "attn.qkv", "attn.proj"]
    rows = [line.split(",") for line in (tmp_path / "layers.csv").read_text().splitlines()]
    assert sum(int(row[rows[0].index("selected")]) for row in rows[1:]) == 40
    with np.load(tmp_path / "layers.npz") as archive:
        assert archive["hybrid/selected"].sum() == 40
    found = json.loads(shpeft("importance", tiny_run, "--which", "task-agnostic", "--json").stdout)
    assert sum(layer["selected"] for layer in found) == 40
    assert "Did you mean density" in shpeft("importance", tiny_run, "--quantity", "densitty", code=2).stderr
    assert "leave out --budget" in shpeft("importance", tiny_run, "--budget", "9", code=2).stderr


def test_importance_without_a_run(tiny_run, tiny_yaml):
    direct = shpeft("importance", "--config", tiny_yaml).stdout
    assert direct == shpeft("importance", tiny_run).stdout


def test_overlap(tiny_run, tmp_path, tiny_yaml):
    output = shpeft("overlap", tiny_run).stdout
    assert "task-specific and task-agnostic" in output
    assert "by chance" in output
    shpeft("finetune", "--config", tiny_yaml, "--score", "random", "--epochs", 1, "--out", tmp_path / "random")
    found = json.loads(shpeft("overlap", tiny_run, tmp_path / "random", "--json").stdout)
    assert list(found) == ["busi: task-specific and task-agnostic", "busi and random"]
    assert 0 <= found["busi and random"]["p_value"] <= 1


def test_evaluate_repeats_the_numbers(tiny_run):
    found = json.loads(shpeft("evaluate", tiny_run, "--device", "cpu", "--json").stdout)
    assert found["finetuned"] == RunFolder.open(tiny_run).metrics()["finetuned"]
    assert "Balanced accuracy" in shpeft("evaluate", tiny_run, "--data", "phantom:fundus?n=30&size=32").stdout
    assert "classes" in shpeft("evaluate", tiny_run, "--data", "phantom:ultrasound?n=30&size=32", code=2).stderr


@pytest.mark.parametrize("verb", ["overlap", "evaluate", "importance", "diagnose"])
def test_what_is_no_run_is_a_sentence(verb, tmp_path):
    images = [tmp_path / "x.png"] if verb == "diagnose" else []
    assert "no run folder" in shpeft(verb, tmp_path / "none", *images, code=2).stderr


# -- diagnose


@pytest.fixture
def scan(tmp_path) -> Path:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    image.save(tmp_path / "Doe_Jane.jpg", exif=exif)
    return tmp_path / "Doe_Jane.jpg"


def test_diagnose_writes_files_without_the_images_name(tiny_run, scan, tmp_path):
    result = shpeft("diagnose", tiny_run, scan, "--saliency", "integrated_gradients", "--out", tmp_path / "found")
    assert "Research use only, not a medical device." in result.stdout
    assert "%" in result.stdout
    written = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert [name.split("_")[0] for name in written] == ["0001", "0001"]
    assert [Path(name).suffix for name in written] == [".json", ".png"]
    for path in (tmp_path / "found").iterdir():
        assert b"Doe" not in path.read_bytes()
    assert "Doe" not in result.stdout
    entry = json.loads((tmp_path / "found" / written[0]).read_text())
    assert entry["run"] == "busi"
    assert entry["notice"] == "Research use only, not a medical device."
    assert sum(entry["probabilities"].values()) == pytest.approx(1)
    assert Image.open(tmp_path / "found" / written[1]).size == (60, 40)


def test_diagnose_goes_on_after_a_damaged_image(tiny_run, scan, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    result = shpeft("diagnose", tiny_run, tmp_path / "bad.png", scan, "--json", code=2)
    assert "bad.png" in result.stderr
    assert [entry["id"].split("_")[0] for entry in json.loads(result.stdout)] == ["0002"]
    assert "bad.png" in shpeft("diagnose", tiny_run, tmp_path / "bad.png", code=2).stderr


def test_diagnose_needs_images_and_a_folder_to_write_to(tiny_run, scan, tmp_path):
    assert "cannot be made" in shpeft("diagnose", tiny_run, scan, "--out", scan, code=2).stderr
    shpeft("diagnose", tiny_run, tmp_path, code=2)
    shpeft("diagnose", tiny_run, tmp_path / "none.png", code=2)


@pytest.mark.parametrize("flags", [["--saliency", "integrated_gradient"], ["--target", "no such class"]])
def test_diagnose_asks_for_what_exists(tiny_run, scan, flags, tmp_path):
    shpeft("diagnose", tiny_run, scan, *flags, "--out", tmp_path / "found", code=2)
    assert list((tmp_path / "found").iterdir()) == []

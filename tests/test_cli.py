import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shpeft.cli import app, launch
from shpeft.cli.console import duration
from shpeft.cli.options import configuration, parse_budget
from shpeft.errors import ConfigError
from shpeft.runs import RunFolder

TINY = """\
backbone: {name: test_vit, weights: random, image_size: 32}
dataset: {source: "phantom:fundus?n=48&size=32"}
selection: {budget: 40, images: 16}
training: {epochs: 2, batch_size: 8}
device: cpu
"""


def shpeft(*arguments, code=0):
    """Run a command; a bug raises, an error is a sentence without a traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    (place / "tiny.yaml").write_text(TINY)
    shpeft("finetune", "--config", place / "tiny.yaml", "--out", place / "busi")
    return place / "busi"


@pytest.fixture
def tiny(tmp_path) -> Path:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


# -- start


def test_help_needs_no_torch_and_is_quick():
    code = (
        "import sys; from shpeft.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numpy', 'timm', 'streamlit', 'captum', 'plotly', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {slow}' if slow else 0)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout
    assert time.perf_counter() - begin < 5  # about 0.4 s on an idle machine


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "shpeft", "datasets", "no:such"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no:such" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# -- finetune


def test_finetune_prints_the_numbers_and_leaves_the_run(tiny, tmp_path):
    output = shpeft("finetune", "--config", tiny, "--seed", 3, "--epochs", 1, "--out", tmp_path / "run").output
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.config.seed, folder.config.training.epochs, folder.config.selection.budget) == (3, 1, 40)
    metrics = folder.metrics()
    for name, title in (
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced acc"),
        ("macro_auroc", "Macro AUROC"),
    ):
        line = next(line for line in output.splitlines() if line.startswith(title))
        for model in ("finetuned", "probe"):
            found = metrics[model][name]
            assert f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" in line
        assert f"{metrics['difference'][name]['value']:+.3f}" in line
    weights = metrics["weights"]
    assert f"backbone {100 * weights['share']:.3f} %, with head {100 * weights['share_with_head']:.3f} %" in output
    assert "Research use only, not a medical device." in output
    assert "epoch 1/1" in output


def test_json_is_all_that_standard_output_holds(tiny, tmp_path):
    result = shpeft("finetune", "--config", tiny, "--epochs", 1, "--out", tmp_path / "run", "--json")
    found = json.loads(result.stdout)
    assert found["finetuned"]["cases"] == 16
    assert found["run"] == str(tmp_path / "run")


def test_without_a_place_runs_go_to_the_root(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "all"))
    shpeft("finetune", "--config", tiny, "--epochs", 1)
    assert [path.name.split("_", 1)[1] for path in (tmp_path / "all").iterdir()] == ["fundus_1"]


def test_an_older_run_is_overwritten_only_when_asked(run, tiny):
    before = (run / "state.json").read_bytes()
    result = shpeft("finetune", "--config", tiny, "--out", run, code=2)
    assert "--overwrite" in result.stderr
    assert (run / "state.json").read_bytes() == before


def test_a_folder_of_others_is_never_touched(tiny, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    for flags in ([], ["--overwrite"]):
        shpeft("finetune", "--config", tiny, "--out", tmp_path / "thesis", *flags, code=2)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--backbone", "test_vitt"], "test_vit"),
        (["--data", "phantom:fundsu"], "phantom:fundus"),
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["--budget", "1e-9"], "selects none"),
        (["--budget", "many"], "is no number"),
        (["--score", "hybird", "--epochs", "0"], "training.epochs"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(tiny, tmp_path, flags, said):
    result = shpeft("finetune", "--config", tiny, *flags, "--out", tmp_path / "run", code=2)
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_control_c_cancels(tiny, tmp_path, monkeypatch):
    from shpeft import pipeline

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.recipe, "finetune", interrupt)
    result = shpeft("finetune", "--config", tiny, "--out", tmp_path / "run", code=130)
    assert "Cancelled." in result.stderr
    assert RunFolder.open(tmp_path / "run").state.status == "cancelled"


# -- configuration


@pytest.mark.parametrize(
    ("text", "budget"), [("1e-4", 1e-4), ("0.01%", 1e-4), ("0.5 %", 5e-3), ("2000", 2000), ("0.25", 0.25), ("1e3", 1e3)]
)
def test_budgets(text, budget):
    assert parse_budget(text) == pytest.approx(budget)
    assert isinstance(parse_budget("2000"), int)


@pytest.mark.parametrize("text", ["", "many", "-3", "1.2.3", "1e", "%"])
def test_budgets_that_are_none(text):
    with pytest.raises(ConfigError, match="is no number"):
        parse_budget(text)


def test_flags_override_the_file_and_nothing_else(tiny):
    config = configuration(tiny, {"lr": 0.1, "budget": "0.1%", "seed": None, "out": "ignored"})
    assert (config.training.lr, config.selection.budget, config.training.batch_size) == (0.1, pytest.approx(1e-3), 8)
    assert configuration(None, {}) == type(config)()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_valid(path):
    assert configuration(path, {"epochs": 1}).training.epochs == 1


def test_a_preset_overrides_the_file_and_flags_override_the_preset(tiny):
    assert configuration(tiny, {"preset": "fast"}).selection.scope == "last:3"
    assert configuration(tiny, {"preset": "fast", "scope": "last:1"}).selection.scope == "last:1"
    assert configuration(None, {"preset": "thorough"}).selection.scope == "matrices"
    assert configuration(tiny, {"preset": "fast"}).training.epochs == configuration(tiny, {}).training.epochs
    with pytest.raises(ConfigError, match=r"no preset 'fats'.*fast"):
        configuration(None, {"preset": "fats"})


# -- what reads a run


def test_flags_that_switch_on_and_off(tiny):
    flags = {"cache": False, "checkpointing": True, "compiled": None, "expectation": "image"}
    made = configuration(tiny, flags)
    assert (made.training.cache, made.training.checkpointing, made.training.compiled) == (False, True, False)
    assert made.selection.expectation == "image"


def test_a_dry_run_prints_the_configuration_and_the_time_and_leaves_nothing(tiny, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = shpeft("finetune", "--config", tiny, "--no-cache", "--dry-run", "--out", tmp_path / "none")
    *yaml, last = result.stdout.strip().splitlines()
    (tmp_path / "printed.yaml").write_text("\n".join(yaml))
    assert configuration(tmp_path / "printed.yaml", {}) == configuration(tiny, {"cache": False})
    assert last.startswith("# Expected on this machine: about ")
    (tmp_path / "printed.yaml").unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_importance_of_a_run(run, tmp_path):
    result = shpeft("importance", run, "--csv", tmp_path / "layers.csv", "--npz", tmp_path / "layers.npz")
    assert result.stdout.splitlines()[0].split()[:3] == ["selected", "attn.qkv", "attn.proj"]
    rows = [line.split(",") for line in (tmp_path / "layers.csv").read_text().splitlines()]
    assert sum(int(row[rows[0].index("selected")]) for row in rows[1:]) == 40
    with np.load(tmp_path / "layers.npz") as archive:
        assert archive["hybrid/selected"].sum() == 40
    found = json.loads(shpeft("importance", run, "--which", "task-agnostic", "--json").stdout)
    assert sum(layer["selected"] for layer in found) == 40
    assert "Did you mean density" in shpeft("importance", run, "--quantity", "densitty", code=2).stderr
    assert "leave out --budget" in shpeft("importance", run, "--budget", "9", code=2).stderr


def test_importance_without_a_run(run, tiny):
    direct = shpeft("importance", "--config", tiny).stdout
    assert direct == shpeft("importance", run).stdout


def test_overlap(run, tmp_path, tiny):
    output = shpeft("overlap", run).stdout
    assert "task-specific and task-agnostic" in output
    assert "by chance" in output
    shpeft("finetune", "--config", tiny, "--score", "random", "--epochs", 1, "--out", tmp_path / "random")
    found = json.loads(shpeft("overlap", run, tmp_path / "random", "--json").stdout)
    assert list(found) == ["busi: task-specific and task-agnostic", "busi and random"]
    assert 0 <= found["busi and random"]["p_value"] <= 1


def test_evaluate_repeats_the_numbers(run):
    found = json.loads(shpeft("evaluate", run, "--device", "cpu", "--json").stdout)
    assert found["finetuned"] == RunFolder.open(run).metrics()["finetuned"]
    assert "Balanced accuracy" in shpeft("evaluate", run, "--data", "phantom:fundus?n=30&size=32").stdout
    assert "classes" in shpeft("evaluate", run, "--data", "phantom:ultrasound?n=30&size=32", code=2).stderr


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


def test_diagnose_writes_files_without_the_images_name(run, scan, tmp_path):
    result = shpeft("diagnose", run, scan, "--saliency", "integrated_gradients", "--out", tmp_path / "found")
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


def test_diagnose_goes_on_after_a_damaged_image(run, scan, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    result = shpeft("diagnose", run, tmp_path / "bad.png", scan, "--json", code=2)
    assert "bad.png" in result.stderr
    assert [entry["id"].split("_")[0] for entry in json.loads(result.stdout)] == ["0002"]
    assert "bad.png" in shpeft("diagnose", run, tmp_path / "bad.png", code=2).stderr


def test_diagnose_needs_images_and_a_folder_to_write_to(run, scan, tmp_path):
    assert "cannot be made" in shpeft("diagnose", run, scan, "--out", scan, code=2).stderr
    shpeft("diagnose", run, tmp_path, code=2)
    shpeft("diagnose", run, tmp_path / "none.png", code=2)


@pytest.mark.parametrize("flags", [["--saliency", "integrated_gradient"], ["--target", "no such class"]])
def test_diagnose_asks_for_what_exists(run, scan, flags, tmp_path):
    shpeft("diagnose", run, scan, *flags, "--out", tmp_path / "found", code=2)
    assert list((tmp_path / "found").iterdir()) == []


# -- lists


def test_lists():
    assert "phantom:fundus" in shpeft("datasets").stdout
    card = shpeft("datasets", "phantom:fundus?n=48&size=32").stdout
    assert "healthy" in card
    assert "Fingerprint" in card
    assert shpeft("backbones").stdout.splitlines()[0] == "embedded"
    assert "vit_small_patch14_dinov2" in json.loads(shpeft("backbones", "small_patch14_dinov2", "--json").stdout)


# -- the app


def test_the_apps_settings_become_flags(tmp_path):
    (tmp_path / ".streamlit").mkdir()
    config = tmp_path / ".streamlit" / "config.toml"
    config.write_text('[server]\naddress = "127.0.0.1"\nport = 1\n[browser]\ngatherUsageStats = false\n')
    assert launch.settings(tmp_path / "main.py", ["--server.port", "9"]) == [
        "--server.address", "127.0.0.1", "--browser.gatherUsageStats", "false"
    ]  # fmt: skip
    config.write_text("[server")
    with pytest.raises(ConfigError, match="damaged"):
        launch.settings(tmp_path / "main.py")
    config.unlink()
    with pytest.raises(ConfigError, match="missing"):
        launch.settings(tmp_path / "main.py")


def test_ui_starts_the_app_with_its_settings(monkeypatch, tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text('[server]\naddress = "127.0.0.1"\n')
    called = []
    monkeypatch.setattr(launch, "app_file", lambda: tmp_path / "main.py")
    monkeypatch.setattr(launch, "start", called.append)
    shpeft("ui", "--port", 8765)
    assert called[0][1:5] == ["-m", "streamlit", "run", str(tmp_path / "main.py")]
    assert called[0][5:] == ["--server.address", "127.0.0.1", "--server.port", "8765"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.2, "0:00 left"), (65, "1:05 left"), (3661, "1:01:01 left")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text

"""The command line: start-up, fine-tuning, interruptions, lists, the app and calibration."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shpeft.cli import app_server
from shpeft.cli.options import configuration
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset
from shpeft.errors import ConfigError, DatasetError
from shpeft.pipeline import weight_training
from shpeft.runs import RunFolder
from shpeft.training import loop
from tests.helpers.command_line import shpeft
from tests.helpers.present import single_label

# -- start-up


def test_help_loads_no_heavy_library_and_is_quick() -> None:
    code = (
        "import sys; from shpeft.cli import app\n"
        "app(['--help'])\n"
        "slow = {'torch', 'numpy', 'timm', 'streamlit', 'captum', 'plotly', 'sklearn', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {slow}' if slow else 0)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finetune" in done.stdout
    assert time.perf_counter() - begin < 20  # about 1 s on an idle computer


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "shpeft", "datasets", "no:such"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no:such" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# -- finetune


def test_finetune_prints_the_numbers_and_leaves_the_run(tiny_yaml: Path, tmp_path: Path) -> None:
    output = shpeft("finetune", "--config", tiny_yaml, "--seed", 3, "--epochs", 1, "--out", tmp_path / "run").output
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.config.seed, folder.config.training.epochs, folder.config.selection.budget) == (3, 1, 40)
    metrics = folder.metrics.read()
    assert metrics is not None
    for name, title in (
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced acc"),
        ("macro_auroc", "Macro AUROC"),
    ):
        line = next(line for line in output.splitlines() if line.startswith(title))
        for model in ("finetuned", "probe"):
            metric = metrics[model][name]
            assert f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]" in line
        assert f"{metrics['difference'][name]['value']:+.3f}" in line
    weights = metrics["weights"]
    assert f"backbone {100 * weights['share']:.3f} %, with head {100 * weights['share_with_head']:.3f} %" in output
    assert "Research use only, not a medical device." in output
    assert "epoch 1/1" in output


def test_standard_output_holds_only_the_json(tiny_yaml: Path, tmp_path: Path) -> None:
    result = shpeft("finetune", "--config", tiny_yaml, "--epochs", 1, "--out", tmp_path / "run", "--json")
    printed = json.loads(result.stdout)
    assert printed["finetuned"]["cases"] == 12
    assert printed["run"] == str(tmp_path / "run")


def test_runs_go_to_the_default_folder(tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "all"))
    shpeft("finetune", "--config", tiny_yaml, "--epochs", 1)
    assert [path.name.split("_", 1)[1] for path in (tmp_path / "all").iterdir()] == ["fundus_1"]


def test_an_older_run_is_overwritten_only_on_request(tiny_run: Path, tiny_yaml: Path) -> None:
    before = (tiny_run / "state.json").read_bytes()
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tiny_run, code=2)
    assert "--overwrite" in result.stderr
    assert (tiny_run / "state.json").read_bytes() == before


def test_a_folder_that_is_not_a_run_is_never_touched(tiny_yaml: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    for flags in ([], ["--overwrite"]):
        shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "thesis", *flags, code=2)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--backbone", "test_vitt"], "test_vit"),
        (["--data", "phantom:fundsu"], "phantom:fundus"),
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["--budget", "1e-9"], "selects none"),
        (["--budget", "many"], "is not a number"),
        (["--score", "hybird", "--epochs", "0"], "training.epochs"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_input_is_reported_and_leaves_nothing(
    tiny_yaml: Path, tmp_path: Path, flags: list[Any], expected: str
) -> None:
    result = shpeft("finetune", "--config", tiny_yaml, *flags, "--out", tmp_path / "run", code=2)
    assert expected in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_control_c_cancels(tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weight_training, "finetune", interrupt)
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "run", code=130)
    assert "Cancelled." in result.stderr
    assert RunFolder.open(tmp_path / "run").state.status == "cancelled"


@pytest.fixture
def control_c() -> Iterator[None]:
    """Restore Python's handler of Control-C, which a shell turns off for background programs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("presses", [1, 2])
def test_control_c_keeps_the_best_epoch_and_a_second_one_cancels(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control_c: None, presses: int
) -> None:
    finetune = loop.finetune

    def pressed(*args: Any, **options: Any) -> Iterator[Any]:
        for report in finetune(*args, **options):
            yield report
            for _ in range(presses if report.epoch else 0):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(weight_training, "finetune", pressed)
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "run", code=130 if presses == 2 else 0)
    folder = RunFolder.open(tmp_path / "run")
    assert "the best epoch so far is tested and kept" in result.stderr
    if presses == 1:
        metrics = folder.metrics.read()
        assert metrics is not None
        assert metrics["training"] == {"epochs": 1, "best_epoch": 1, "averaged": 0, "cached_below": None}
        assert "Stopped after epoch 1 of 2." in result.output
    else:
        assert folder.state.status == "cancelled"
        assert "finetune --resume" in result.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("flag", ["--keep", "--discard"])
def test_another_command_stops_a_run(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    finetune = loop.finetune

    def stopped(*args: Any, **options: Any) -> Iterator[Any]:
        for report in finetune(*args, **options):
            yield report
            if report.epoch:  # the start is no epoch that could be kept
                assert "far ends after the present step" in shpeft("runs", "stop", "far", flag).output

    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    monkeypatch.setattr(weight_training, "finetune", stopped)
    code = 0 if flag == "--keep" else 130
    errors = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "far", code=code).stderr
    if flag == "--keep":
        assert [report.epoch for report in RunFolder.open(tmp_path / "far").history.read()] == [0, 1]
        assert "nothing is under way" in shpeft("runs", "stop", "far", code=2).stderr
    else:
        assert not (tmp_path / "far").exists()
        assert "shpeft runs restore far" in errors
        shpeft("runs", "restore", "far")
        monkeypatch.setattr(weight_training, "finetune", finetune)
        shpeft("finetune", "--resume", "far")  # the old request to stop is over


def test_a_dry_run_prints_the_configuration_and_the_time_and_leaves_nothing(tiny_yaml: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = shpeft("finetune", "--config", tiny_yaml, "--no-cache", "--dry-run", "--out", tmp_path / "none")
    *yaml, last = result.stdout.strip().splitlines()
    (tmp_path / "printed.yaml").write_text("\n".join(yaml))
    without_cache = RunConfig.parse({"training": {"cache": False}})
    assert configuration(tmp_path / "printed.yaml") == configuration(tiny_yaml, given=without_cache)
    assert last.startswith("# Expected on this machine: about ")
    (tmp_path / "printed.yaml").unlink()
    assert sorted(tmp_path.iterdir()) == before


# -- lists


def test_lists() -> None:
    assert "phantom:fundus" in shpeft("datasets").stdout
    card = shpeft("datasets", "phantom:fundus?n=48&size=32").stdout
    assert "healthy" in card
    assert "Fingerprint" in card
    listing = shpeft("backbones").stdout
    assert listing.startswith("General")
    assert "hf-hub:MahmoodLab/UNI --model-arg init_values=1e-05" in listing
    assert "shpeft backbones PATTERN" in listing
    entries = json.loads(shpeft("backbones", "--json").stdout)
    assert entries[0]["name"] == "embedded"
    assert all(entry["seconds"] > 0 and entry["memory"] > 0 for entry in entries)
    assert "vit_small_patch14_dinov2" in json.loads(shpeft("backbones", "small_patch14_dinov2", "--json").stdout)


# -- the app


def test_the_apps_settings_become_flags(tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    config = tmp_path / ".streamlit" / "config.toml"
    config.write_text(
        '[server]\naddress = "127.0.0.1"\nport = 1\nallowedHosts = ["a", "b"]\n[browser]\ngatherUsageStats = false\n'
    )
    assert app_server.settings(tmp_path / "main.py", ["--server.port", "9"]) == [
        "--server.address", "127.0.0.1", "--server.allowedHosts", "a", "--server.allowedHosts", "b",
        "--browser.gatherUsageStats", "false"
    ]  # fmt: skip
    config.write_text("[server")
    with pytest.raises(ConfigError, match="damaged"):
        app_server.settings(tmp_path / "main.py")
    config.unlink()
    with pytest.raises(ConfigError, match="missing"):
        app_server.settings(tmp_path / "main.py")


def test_ui_starts_the_app_with_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text('[server]\naddress = "127.0.0.1"\n')
    called: list[list[str]] = []
    monkeypatch.setattr(app_server, "app_file", lambda: tmp_path / "main.py")
    monkeypatch.setattr(app_server, "start_app", called.append)
    shpeft("ui", "--port", 8765)
    assert called[0][1:5] == ["-m", "streamlit", "run", str(tmp_path / "main.py")]
    assert called[0][5:] == ["--server.address", "127.0.0.1", "--server.port", "8765"]


# -- the class that must not be missed


def test_finetune_prints_what_the_class_that_must_not_be_missed_gets(tiny_yaml: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--must-not-miss", "exudates", "--sensitivity", 0.8, "--epochs", 1)
    printed = shpeft("finetune", "--config", tiny_yaml, *flags, "--out", run).stdout.splitlines()
    reliability = single_label(RunFolder.open(run).reliability.read())
    assert reliability.operating is not None
    assert (reliability.operating.rule.positive, reliability.operating.rule.target) == ("exudates", 0.8)
    assert printed[0] == reliability.headline
    assert printed[0].startswith("Finds ")
    assert printed[1].startswith("No promise for new images: 80 % with 90 % confidence needs 11 validation images")
    assert "linear probe" in printed[2]
    assert f"**{reliability.headline}**" in (run / "README.md").read_text()
    assert shpeft("runs", "show", run).stdout.splitlines()[:2] == printed[:2]


@pytest.mark.parametrize(("name", "expected"), [("exudate", "exudates"), ("cotton wool", "There is no class")])
def test_unknown_class_is_refused_before_training(tiny_yaml: Path, tmp_path: Path, name: str, expected: str) -> None:
    output = shpeft("finetune", "--config", tiny_yaml, "--must-not-miss", name, "--out", tmp_path / "run", code=2)
    assert expected in output.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


# -- calibrate


def test_calibrate_keeps_the_threshold_and_diagnose_uses_it(tiny_run: Path, tmp_path: Path) -> None:
    output = shpeft("calibrate", tiny_run, "--positive", "exudates", "--rule", "sensitivity", "--target", 0.9).output
    reliability = single_label(RunFolder.open(tiny_run).reliability.read())
    assert reliability.operating is not None
    assert f"Threshold for exudates (sensitivity): {reliability.operating.threshold:.4f}" in output
    assert f"Temperature {reliability.calibration.temperature:.3f} [" in output
    assert reliability.test is not None
    assert reliability.test.gate is not None
    for sentence in reliability.test.gate.sentences:
        assert sentence in output
        assert sentence in (tiny_run / "README.md").read_text()
    assert "Research use only" in output
    load_dataset("phantom:fundus?n=36&size=32").test.image(0).save(tmp_path / "DOE.png")
    output = shpeft("diagnose", tiny_run, tmp_path / "DOE.png").output
    assert "probability of exudates is" in output
    assert "At this threshold, " in output
    assert "such validation images" in output
    assert "Still possible: " in output
    entry = json.loads(shpeft("diagnose", tiny_run, tmp_path / "DOE.png", "--json").stdout)[0]
    assert entry["judgement"]["threshold"]["threshold"] == reliability.operating.threshold
    assert set(entry["novelty"]) == {"distance", "percentile", "alarm", "mismatches"}


def test_calibrate_measures_the_gate_of_an_older_run_if_its_images_are_there(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "older"))
    (run / "novelty.csv").unlink()
    monkeypatch.setattr("shpeft.pipeline.calibrate.load_dataset", _gone)
    assert "The rates of the gate are not measured: The images are gone." in shpeft("calibrate", run).stderr
    monkeypatch.undo()
    assert "images of other kinds" in shpeft("calibrate", run).stdout.lower()
    assert (run / "novelty.csv").exists()


def _gone(*_: object, **__: object) -> None:
    raise DatasetError("The images are gone.")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--positive", "exudate"], "exudates"),
        (["--positive", "exudates", "--rule", "yuden"], "youden"),
        (["--coverage", "90"], "between 0 and 1"),
        (["--answer", "0.9", "--max-risk", "0.1"], "not both"),
        (["--around", "threshold"], "Choose a threshold first"),
    ],
)
def test_impossible_decision_rules_are_refused(tiny_run: Path, flags: list[Any], expected: str) -> None:
    before = (tiny_run / "trust.json").read_bytes()
    assert expected in shpeft("calibrate", tiny_run, *flags, code=2).stderr
    assert (tiny_run / "trust.json").read_bytes() == before

import json
import signal
import subprocess
import sys
import time

import pytest

from shpeft.cli import launch
from shpeft.cli.options import configuration
from shpeft.datasets import load_dataset
from shpeft.errors import ConfigError
from shpeft.runs import RunFolder

from .commands import shpeft

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


def test_finetune_prints_the_numbers_and_leaves_the_run(tiny_yaml, tmp_path):
    output = shpeft("finetune", "--config", tiny_yaml, "--seed", 3, "--epochs", 1, "--out", tmp_path / "run").output
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


def test_json_is_all_that_standard_output_holds(tiny_yaml, tmp_path):
    result = shpeft("finetune", "--config", tiny_yaml, "--epochs", 1, "--out", tmp_path / "run", "--json")
    found = json.loads(result.stdout)
    assert found["finetuned"]["cases"] == 16
    assert found["run"] == str(tmp_path / "run")


def test_without_a_place_runs_go_to_the_root(tiny_yaml, tmp_path, monkeypatch):
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "all"))
    shpeft("finetune", "--config", tiny_yaml, "--epochs", 1)
    assert [path.name.split("_", 1)[1] for path in (tmp_path / "all").iterdir()] == ["fundus_1"]


def test_an_older_run_is_overwritten_only_when_asked(tiny_run, tiny_yaml):
    before = (tiny_run / "state.json").read_bytes()
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tiny_run, code=2)
    assert "--overwrite" in result.stderr
    assert (tiny_run / "state.json").read_bytes() == before


def test_a_folder_of_others_is_never_touched(tiny_yaml, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    for flags in ([], ["--overwrite"]):
        shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "thesis", *flags, code=2)
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
def test_bad_input_is_a_sentence_and_leaves_nothing(tiny_yaml, tmp_path, flags, said):
    result = shpeft("finetune", "--config", tiny_yaml, *flags, "--out", tmp_path / "run", code=2)
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_control_c_cancels(tiny_yaml, tmp_path, monkeypatch):
    from shpeft import pipeline

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.recipe, "finetune", interrupt)
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "run", code=130)
    assert "Cancelled." in result.stderr
    assert RunFolder.open(tmp_path / "run").state.status == "cancelled"


@pytest.fixture
def control_c():
    """Control-C as a terminal's programs have it: a shell makes those in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("presses", [1, 2])
def test_control_c_keeps_the_best_epoch_and_a_second_one_cancels(tiny_yaml, tmp_path, monkeypatch, control_c, presses):
    from shpeft import pipeline

    finetune = pipeline.recipe.finetune

    def pressed(*args, **options):
        for report in finetune(*args, **options):
            yield report
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline.recipe, "finetune", pressed)
    result = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "run", code=130 if presses == 2 else 0)
    folder = RunFolder.open(tmp_path / "run")
    assert "the best epoch so far is tested and kept" in result.stderr
    if presses == 1:
        assert folder.metrics()["training"] == {"epochs": 1, "best_epoch": 1, "cached_below": None}
        assert "Stopped after epoch 1 of 2." in result.output
    else:
        assert folder.state.status == "cancelled"
        assert "finetune --resume" in result.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("flag", ["--keep", "--discard"])
def test_a_run_that_another_command_works_on_is_stopped(tiny_yaml, tmp_path, monkeypatch, flag):
    from shpeft import pipeline

    finetune = pipeline.recipe.finetune

    def stopped(*args, **options):
        for report in finetune(*args, **options):
            yield report
            assert "far ends after the present step" in shpeft("runs", "stop", "far", flag).output

    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    monkeypatch.setattr(pipeline.recipe, "finetune", stopped)
    code = 0 if flag == "--keep" else 130
    said = shpeft("finetune", "--config", tiny_yaml, "--out", tmp_path / "far", code=code).stderr
    if flag == "--keep":
        assert len(RunFolder.open(tmp_path / "far").history()) == 1
        assert "nothing is under way" in shpeft("runs", "stop", "far", code=2).stderr
    else:
        assert not (tmp_path / "far").exists()
        assert "shpeft runs restore far" in said
        shpeft("runs", "restore", "far")
        monkeypatch.setattr(pipeline.recipe, "finetune", finetune)
        shpeft("finetune", "--resume", "far")  # what was asked of it before is over


def test_a_dry_run_prints_the_configuration_and_the_time_and_leaves_nothing(tiny_yaml, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = shpeft("finetune", "--config", tiny_yaml, "--no-cache", "--dry-run", "--out", tmp_path / "none")
    *yaml, last = result.stdout.strip().splitlines()
    (tmp_path / "printed.yaml").write_text("\n".join(yaml))
    assert configuration(tmp_path / "printed.yaml", {}) == configuration(tiny_yaml, {"cache": False})
    assert last.startswith("# Expected on this machine: about ")
    (tmp_path / "printed.yaml").unlink()
    assert sorted(tmp_path.iterdir()) == before


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


# -- calibrate


def test_calibrate_keeps_the_threshold_and_diagnose_uses_it(tiny_run, tmp_path):
    output = shpeft("calibrate", tiny_run, "--positive", "exudates", "--rule", "sensitivity", "--target", 0.9).output
    trust = RunFolder.open(tiny_run).trust()
    assert f"Threshold for exudates (sensitivity): {trust.operating.threshold:.4f}" in output
    assert f"Temperature {trust.calibration.temperature:.3f} [" in output
    assert "Research use only" in output
    load_dataset("phantom:fundus?n=36&size=32").test.image(0).save(tmp_path / "DOE.png")
    output = shpeft("diagnose", tiny_run, tmp_path / "DOE.png").output
    assert "for exudates at the threshold" in output
    assert "such validation images" in output
    assert "Prediction set at a coverage of 90%:" in output
    entry = json.loads(shpeft("diagnose", tiny_run, tmp_path / "DOE.png", "--json").stdout)[0]
    assert entry["judgement"]["threshold"]["threshold"] == trust.operating.threshold
    assert set(entry["novelty"]) == {"distance", "percentile", "alarm"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--positive", "exudate"], "exudates"),
        (["--positive", "exudates", "--rule", "yuden"], "youden"),
        (["--coverage", "90"], "between 0 and 1"),
        (["--answer", "0.9", "--max-risk", "0.1"], "not both"),
        (["--around", "threshold"], "Choose one first"),
    ],
)
def test_choices_that_cannot_be_are_sentences(tiny_run, flags, said):
    before = (tiny_run / "trust.json").read_bytes()
    assert said in shpeft("calibrate", tiny_run, *flags, code=2).stderr
    assert (tiny_run / "trust.json").read_bytes() == before

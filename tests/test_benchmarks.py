"""Every benchmark runs at its smallest size, checks what it claims to check, and prints its table."""

import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reliability.processes import redirected, started

FOLDER = Path(__file__).parents[1] / "benchmarks"

SMALLEST = {
    "step.py": ["--models", "test_vit", "--batch", "2", "--data", "phantom:fundus?n=36&size=32"],
    "score.py": ["--models", "test_vit", "--batch", "2"],
    "presets.py": ["--backbone", "test_vit", "--weights", "random", "--image-size", "32", "--epochs", "1"],
    "saliency.py": [
        *("--backbone", "test_vit", "--weights", "random", "--image-size", "32"),
        *("--images", "1", "--checked", "1"),
    ],
    "selection.py": ["--count", "300000"],
    "link.py": ["--paper"],
    "protection.py": [],
    "switch.py": ["--backbone", "test_vit", "--switches", "2"],
    "ood.py": [
        *("--backbone", "test_vit", "--weights", "random", "--image-size", "32"),
        *("--data", "phantom:fundus?n=45&size=32", "--data", "phantom:ultrasound?n=45&size=32"),
    ],
    "federated.py": [
        *(
            "--backbone",
            "test_vit",
            "--weights",
            "random",
            "--image-size",
            "32",
            "--scope",
            "matrices",
            "--epochs",
            "1",
        ),
        *("--data", "phantom:fundus?n=120&size=32"),
    ],
    "private_selection.py": [
        *("--backbone", "test_vit", "--weights", "random", "--image-size", "32", "--cases", "36", "--budget", "1e-3"),
    ],
    "calibrate.py": ["--tokens", "16", "--densities", "1e-3", "1e-2"],
    "decoder_child.py": ["--sizes", "64"],
    "loading.py": ["--images", "40", "--side", "64", "--files", "40"],
    "throughput.py": ["--images", "4", "--large", "2", "--side", "600", "--sizes", "1", "2"],
    "readiness.py": ["--library-only"],
    "right_of_way.py": ["--data", "phantom:fundus?n=36&size=32"],
    "versions.py": [str(FOLDER.parent), "--only", "help"],
    "burnt_in.py": ["--drawn", "1", "--data", "phantom:mri?n=36&size=64"],
    "temperature.py": [
        *("--backbone", "test_vit", "--weights", "random", "--image-size", "32", "--epochs", "1"),
        *("--data", "phantom:fundus?n=120&size=32", "--sizes", "5", "--divisions", "1"),
    ],
    "variants.py": [
        *(
            "--data-root",
            ".",
            "--dataset",
            "fundus",
            "--seed",
            "100",
            "--only",
            "one a row and column",
            "--epochs",
            "1",
        ),
    ],
}

PLAN = """
backbone: {name: test_vit, weights: random, image_size: 32}
datasets: {fundus: {source: "phantom:fundus?n=120&size=32"}}
grids: {sparse: [1.0e-2]}
arms: {product: {kind: sparse}}
"""

ROWS = {
    "step.py": ["full fine-tuning", "floor", "ours, 0.01 %", "ours, 1 % at random", "prefix cached"],
    "score.py": ["plain forward and backward", "exact Fisher"],
    "presets.py": ["phantom:fundus?n=36&size=32", "mean"],
    "saliency.py": ["SmoothGrad", "by dataset"],
    "link.py": ["ViT-S, 0.01%", "ViT-g, all weights", "10 Gbit/s"],
    "protection.py": ["`shpeft --help`", "before its first page"],
    "selection.py": ["torch.topk", "ours, 1 %"],
    "switch.py": ["delta, 0.01 %"],
    "ood.py": ["Mahalanobis, 64 directions (the library's)", "fifth nearest neighbor"],
    "calibrate.py": ["ViT-B fc1, 1 %"],
    "decoder_child.py": ["64 × 64, JPEG-LS"],
    "loading.py": ["40 JPEGs of 64 px", "40 PNGs of 32 px, opened, again"],
    "throughput.py": ["4 JPEGs of 512 px", "2 JPEGs of 600 px | 2 |"],
    "readiness.py": ["library"],
    "right_of_way.py": ["the map with its checks"],
    "versions.py": ["`shpeft --help` | 2 |"],
    "burnt_in.py": ["letters of", "arms of", "phantom:mri?n=36&size=64"],
    "federated.py": ["all images in one place", "six sites by class", "six sites by patient, a head for each", "alone"],
    "private_selection.py": ["without noise", "| 2 | 2.17 | 1,800 |", "by magnitude"],
    "temperature.py": ["never", "always"],
    "variants.py": ["linear probe", "one a row and column, 0.7 of the change"],
}


SECONDS = 240
"""The most that a script may take."""


def run(name: str, folder: Path, *options: str) -> tuple[int | None, str, str]:
    """Run a script in a process of its own; return its exit status, its output and its errors."""
    if name == "readiness.py":  # it measures imports, which a forked process has behind it
        command = [sys.executable, str(FOLDER / name), *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return result.returncode, result.stdout, result.stderr
    output, errors = folder / "output", folder / "errors"
    child = started(run_script, FOLDER / name, options, output, errors)
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        child.join()
    return child.exitcode, output.read_text(), errors.read_text()


def run_script(path: Path, options: tuple[str, ...], output: Path, errors: Path) -> None:
    """Run a script as Python does."""
    redirected(output, errors)
    sys.argv = [str(path), *options]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    before = (FOLDER / "RESULTS.md").read_text()
    has_runs = name in ("presets.py", "saliency.py")
    more = ["--data", "phantom:fundus?n=36&size=32", "--runs", str(tmp_path)] if has_runs else []
    if name == "variants.py":
        (tmp_path / "plan.yaml").write_text(PLAN)
        more = ["--plan", str(tmp_path / "plan.yaml"), "--store", str(tmp_path / "store.jsonl")]
    status, output, errors = run(name, tmp_path, *SMALLEST[name], "--repeats", "1", *more)
    assert status == 0, errors
    for row in ROWS[name]:
        assert row in output
    assert f"benchmarks/{name}" in output
    assert (FOLDER / "RESULTS.md").read_text() == before  # nothing is written without --write


@pytest.mark.slow
def test_rows_of_peft_are_present_or_reported_missing(tmp_path: Path) -> None:
    options = [*SMALLEST["step.py"], "--repeats", "1", "--arms", "floor", "lora-qkv"]
    status, output, errors = run("step.py", tmp_path, *options)
    assert status == 0, errors
    assert ("LoRA r8 on qkv (peft)" if find_spec("peft") else "pip install 'shpeft[compare]'") in output


def test_every_benchmark_is_run_and_described() -> None:
    scripts = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {*SMALLEST, "app_latency.py", "series_viewer.py"}  # whose parts tests/browser runs
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in scripts)

"""Every benchmark runs at its smallest size, checks what it claims to check, and prints its table."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

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
    "switch.py": ["--backbone", "test_vit", "--switches", "2"],
    "ood.py": [
        *("--backbone", "test_vit", "--weights", "random", "--image-size", "32"),
        *("--data", "phantom:fundus?n=45&size=32", "--data", "phantom:ultrasound?n=45&size=32"),
    ],
    "calibrate.py": ["--tokens", "16", "--densities", "1e-3", "1e-2"],
    "loading.py": ["--images", "40", "--side", "64", "--files", "40"],
    "readiness.py": ["--library-only"],
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
    "selection.py": ["torch.topk", "ours, 1 %"],
    "switch.py": ["delta, 0.01 %"],
    "ood.py": ["Mahalanobis, 64 directions (the library's)", "fifth nearest neighbor"],
    "calibrate.py": ["ViT-B fc1, 1 %"],
    "loading.py": ["40 JPEGs of 64 px", "40 PNGs of 32 px, opened, again"],
    "readiness.py": ["library"],
    "temperature.py": ["never", "always"],
    "variants.py": ["linear probe", "one a row and column, 0.7 of the change"],
}


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / name), *options], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    before = (FOLDER / "RESULTS.md").read_text()
    has_runs = name in ("presets.py", "saliency.py")
    more = ["--data", "phantom:fundus?n=36&size=32", "--runs", str(tmp_path)] if has_runs else []
    if name == "variants.py":
        (tmp_path / "plan.yaml").write_text(PLAN)
        more = ["--plan", str(tmp_path / "plan.yaml"), "--store", str(tmp_path / "store.jsonl")]
    result = run(name, *SMALLEST[name], "--repeats", "1", *more)
    assert result.returncode == 0, result.stderr
    for row in ROWS[name]:
        assert row in result.stdout
    assert f"benchmarks/{name}" in result.stdout
    assert (FOLDER / "RESULTS.md").read_text() == before  # nothing is written without --write


def test_rows_of_peft_are_present_or_reported_missing() -> None:
    options = [*SMALLEST["step.py"], "--repeats", "1", "--arms", "floor", "lora-qkv"]
    result = run("step.py", *options)
    assert result.returncode == 0, result.stderr
    assert ("LoRA r8 on qkv (peft)" if find_spec("peft") else "pip install 'shpeft[compare]'") in result.stdout


def test_every_benchmark_is_run_and_described() -> None:
    scripts = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {*SMALLEST, "app_latency.py"}  # which tests/browser/test_must_hold.py runs
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in scripts)

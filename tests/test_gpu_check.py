"""The checks for a graphics card run on a processor, and one that fails does not end the others."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[1] / "tools" / "gpu_check.py"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("gpu_check", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_checks_run_on_a_processor_and_a_failure_is_one_of_the_results(gpu_check: ModuleType) -> None:
    checks = gpu_check.Checks("cpu", small=True)
    checks.run("gradients", checks.gradients)
    checks.run("fails", lambda: 1 / 0)
    checks.run("prefix cache", checks.prefix_cache)
    checks.run("scoring", lambda: checks.scoring("test_vit"))
    checks.run("diagnosing", checks.diagnosing)
    checks.run("step", lambda: checks.steps("test_vit", "float32"))
    errors = {name: result.get("error") for name, result in checks.results.items() if "result" not in result}
    assert errors == {"fails": "ZeroDivisionError: division by zero"}
    assert checks.results["gradients"]["result"]["largest_difference_of_the_largest"] < 1e-4
    assert checks.results["prefix cache"]["result"]["largest_difference"] < 1e-3
    assert checks.results["scoring"]["result"]["selected"] == 31
    assert checks.results["diagnosing"]["result"]["images_a_second_by_32"] > 0
    step = checks.results["step"]["result"]
    assert step["batch"] == 4
    assert step["ours 0.01 %"]["of_full"] == step["ours 0.01 %"]["seconds"] / step["full"]["seconds"]


def test_no_check_begins_after_the_limit(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "LIMIT", -1)
    checks = gpu_check.Checks("cpu", small=True)
    checks.run("gradients", checks.gradients)
    assert "left_out" in checks.results["gradients"]

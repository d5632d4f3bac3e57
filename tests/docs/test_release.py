"""What a release needs: one version everywhere, lower bounds that can be installed, a citation."""

import tomllib
from pathlib import Path

import pytest
import yaml

import shpeft
from tools.lower_bounds import lower_bounds

ROOT = Path(__file__).resolve().parents[2]


def test_every_requirement_becomes_a_pin() -> None:
    text = """
    [project]
    name = "example"
    dependencies = ["numpy>=2.2", "torch>=2.9.1"]
    [project.optional-dependencies]
    dicom = ["pydicom>=3.0", "example[pdf]"]
    pdf = ["playwright>=1.55"]
    [dependency-groups]
    test = ["pytest>=8.4"]
    dev = [{ include-group = "test" }, "Some_Package[extra]>=1.0.post2"]
    """
    with pytest.raises(ValueError, match="Some_Package"):
        lower_bounds(text)
    pins = lower_bounds(text.replace(', "Some_Package[extra]>=1.0.post2"', ', "numpy>=2.2"'))
    assert pins == ["numpy==2.2", "playwright==1.55", "pydicom==3.0", "pytest==8.4", "torch==2.9.1"]


def test_the_project_has_a_lower_bound_for_every_requirement() -> None:
    pins = dict(pin.split("==") for pin in lower_bounds((ROOT / "pyproject.toml").read_text()))
    assert pins["torch"] == "2.9.1"
    assert {"streamlit", "rich", "huggingface_hub", "pydicom", "peft", "pytest", "sphinx"} <= set(pins)
    assert pins["torchvision"] == "0.24.1"  # the one that belongs to that torch


def test_one_version() -> None:
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["path"] == "shpeft/__init__.py"
    )
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == shpeft.__version__
    assert f"## {shpeft.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "shpeft" / "py.typed").exists()

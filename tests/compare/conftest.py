"""Fixtures of the comparison's tests."""

import sys
from pathlib import Path

import pytest

SMALL_PLAN = """\
backbone: {name: test_vit, weights: random, image_size: 32}
datasets:
  fundus: {source: "phantom:fundus?n=36&size=32"}
  ultrasound: {source: "phantom:ultrasound?n=36&size=32"}
images_per_class: {train: 6, val: 4}
seeds: [0, 1]
budgets: [40, 0.01]
tune: first
training: {epochs: 1, batch_size: 8}
grids: {sparse: [1.0e-3, 1.0e-2], full: [1.0e-4, 1.0e-3]}
arms:
  probe: {kind: probe}
  product: {kind: sparse, images: 8}
  gradient: {kind: sparse, score: gradient, images: 8}
report:
  title: A test
  margin: 0.02
  pairs: {fundus: [healthy, exudates]}
  questions: [{kind: better, than: gradient}, {kind: own_weights}]
overlaps: {arms: [gradient, product], budgets: [40]}
"""


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """The YAML file of a small plan."""
    path = tmp_path / "few.yaml"
    path.write_text(SMALL_PLAN)
    return path


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write figures as pages, as where no browser is installed."""
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)

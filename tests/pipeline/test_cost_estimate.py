"""Cost estimates: the number of passes times the seconds of a pass, and the bytes of one image."""

import time
from typing import Any

import pytest

from shpeft.config import PRESETS, BackboneConfig, RunConfig
from shpeft.forward import cached
from shpeft.pipeline import cost_estimate, estimate_cost
from shpeft.pipeline import memory as memory_module
from shpeft.pipeline.progress import WorkPlan
from shpeft.support.progress import format_duration

CASES = (100, 20, 40)
VIT = BackboneConfig(name="test_vit", weights="random", image_size=32)
TINY: dict[str, Any] = {"backbone": {"name": "test_vit", "image_size": 32}, "device": "cpu"}


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a pass take half a second."""
    monkeypatch.setattr(cost_estimate, "seconds_a_pass", lambda *_: 0.5)


def test_time_is_passes_times_seconds_a_pass(pace: None) -> None:
    config = RunConfig.parse(TINY | {"selection": {"scope": "matrices"}})
    assert estimate_cost(config, CASES).seconds == cost_estimate.SETUP + 0.5 * WorkPlan.of(config, CASES, 1.0).total


def test_the_cached_prefix_and_checkpointing_count(pace: None) -> None:
    def seconds(**training: Any) -> float:
        config = {"selection": {"scope": "last:2"}, "training": {"epochs": 10, **training}}
        return estimate_cost(RunConfig.parse(TINY | config), CASES).seconds

    cached, plain, anew = seconds(), seconds(cache=False), seconds(checkpointing="always")
    assert cost_estimate.cached_share(VIT, "last:2") == pytest.approx(2 / 6)
    assert cached < plain / 2
    # one more forward of each training image for the scores and in each epoch; and no cache
    assert anew - plain == pytest.approx(0.5 * (100 + 10 * 100))


def test_memory_is_the_sum_of_weights_activations_and_features(pace: None) -> None:
    def memory(
        scope: str = "matrices", batch_size: int = 16, cases: tuple[int, int, int] = CASES, **training: Any
    ) -> int:
        config = {"selection": {"scope": scope}, "training": {"batch_size": batch_size, **training}}
        return estimate_cost(RunConfig.parse(TINY | config), cases).memory

    sizes = cost_estimate.measured_sizes(VIT, "float32", "matrices", "cpu", True)
    assert memory() == memory_module.FIXED_MEMORY + 4 * (sizes.weights + 2 * sizes.eligible) + 16 * sizes.scoring
    assert memory(batch_size=32) - memory() == 16 * sizes.scoring
    few = cost_estimate.measured_sizes(VIT, "float32", "last:2", "cpu", True)
    assert few.features == 5 * 64 * 4  # four patches and the class token
    assert few.training < sizes.training
    assert memory("last:2", cases=(1000, 20, 40)) - memory("last:2") == 900 * few.features
    assert memory("last:2", cases=(10**9, 20, 40)) < cached.MEMORY + memory()
    assert memory("last:2", cache=False, cases=(1000, 20, 40)) == memory("last:2", cache=False)


def test_recomputed_activations_are_not_in_the_estimate(pace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(**training: Any) -> cost_estimate.Cost:
        return estimate_cost(RunConfig.parse(TINY | {"training": training}), CASES)

    plain, always = cost(checkpointing="never"), cost(checkpointing="always")
    assert always.memory < plain.memory
    assert always.seconds > plain.seconds
    for free, expected in ((None, plain), (2**40, plain), (0, always)):
        monkeypatch.setattr(cost_estimate, "free_bytes", lambda _, free=free: free)
        assert cost() == expected


def test_a_pass_is_measured_once_for_each_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    cost_estimate.seconds_a_pass.cache_clear()
    assert cost_estimate.seconds_a_pass(VIT, "float32", "cpu") == 1 / cost_estimate.BATCH
    used = next(ticks)
    assert cost_estimate.seconds_a_pass(VIT, "float32", "cpu") == 1 / cost_estimate.BATCH
    assert next(ticks) == used + 1
    cost_estimate.seconds_a_pass.cache_clear()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_only_its_settings_and_is_recognized(name: str) -> None:
    config = RunConfig.parse({"selection": {"scope": "all", "budget": 0.01}}).with_preset(name)
    assert config.preset == name
    assert config.selection.budget == 0.01
    assert RunConfig.parse({"selection": {"scope": "all"}}).preset is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "5 s"), (23, "25 s"), (57, "55 s"), (58, "1 min"), (250, "4 min"), (3590, "1 h"), (4900, "1 h 20 min")],
)
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text

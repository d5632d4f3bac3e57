"""What a run is expected to cost: counted passes times a measured one, and bytes that are counted on one image."""

import pytest

from shpeft.config import PRESETS, RunConfig
from shpeft.pipeline import estimate, expected
from shpeft.pipeline.meter import Work
from shpeft.progress import about

CASES = (100, 20, 40)
TINY = {"backbone": {"name": "test_vit", "image_size": 32}, "device": "cpu"}


@pytest.fixture
def pace(monkeypatch):
    """Half a second a pass."""
    monkeypatch.setattr(estimate, "seconds_a_pass", lambda *_: 0.5)


def test_time_is_passes_times_the_pace(pace):
    config = RunConfig.parse(TINY | {"selection": {"scope": "matrices"}})
    assert expected(config, CASES).seconds == estimate.SETUP + 0.5 * Work.plan(config, CASES, 1.0).total


def test_the_cached_prefix_and_checkpointing_count(pace):
    def seconds(**training):
        config = {"selection": {"scope": "last:2"}, "training": {"epochs": 10, **training}}
        return expected(RunConfig.parse(TINY | config), CASES).seconds

    cached, plain, anew = seconds(), seconds(cache=False), seconds(checkpointing=True)
    assert estimate.cached_share("test_vit", 32, "last:2") == pytest.approx(2 / 6)
    assert cached < plain / 2
    # one more forward of each training image in each epoch; and no cache
    assert anew - plain == pytest.approx(0.5 * 10 * 100)


def test_memory_is_that_of_weights_activations_and_features(pace):
    def memory(scope="matrices", batch_size=16, cases=CASES, **training):
        config = {"selection": {"scope": scope}, "training": {"batch_size": batch_size, **training}}
        return expected(RunConfig.parse(TINY | config), cases).memory

    sizes = estimate.measured_sizes("test_vit", 32, "float32", "matrices", "cpu", True)
    assert memory() == estimate.BESIDES + 4 * (sizes.weights + 3 * sizes.eligible) + 16 * sizes.scoring
    assert memory(batch_size=32) - memory() == 16 * sizes.scoring
    few = estimate.measured_sizes("test_vit", 32, "float32", "last:2", "cpu", True)
    assert few.features == 5 * 64 * 4  # four patches and the class token
    assert few.training < sizes.training
    assert memory("last:2", cases=(1000, 20, 40)) - memory("last:2") == 900 * few.features
    assert memory("last:2", cases=(10**9, 20, 40)) < estimate.MEMORY + memory()
    assert memory("last:2", cache=False, cases=(1000, 20, 40)) == memory("last:2", cache=False)


def test_a_pass_is_measured_once_for_each_setting(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: float(next(ticks)))
    estimate.seconds_a_pass.cache_clear()
    assert estimate.seconds_a_pass("test_vit", 32, "float32", "cpu") == 1 / estimate.BATCH
    used = next(ticks)
    assert estimate.seconds_a_pass("test_vit", 32, "float32", "cpu") == 1 / estimate.BATCH
    assert next(ticks) == used + 1
    estimate.seconds_a_pass.cache_clear()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_decides_what_it_names_and_is_recognised(name):
    config = RunConfig.parse({"selection": {"scope": "all", "budget": 0.01}}).with_preset(name)
    assert config.preset == name
    assert config.selection.budget == 0.01
    assert RunConfig.parse({"selection": {"scope": "all"}}).preset is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 s"), (23, "25 s"), (57, "55 s"), (58, "1 min"), (250, "4 min"), (3590, "1 h"), (4900, "1 h 20 min")],
)
def test_durations_as_an_estimate_deserves_them(seconds, words):
    assert about(seconds) == words

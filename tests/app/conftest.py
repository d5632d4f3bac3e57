"""The app's settings, empty folders for runs and cache, and a finished run, for tests without a browser."""

import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit
from streamlit import config as settings

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.explanation.saliency import PassTime
from shpeft.runs import RunFolder
from tests.helpers.app_accounts import Be
from tests.helpers.app_pages import MAIN, ROOT, TINY


@pytest.fixture(autouse=True)
def _app_settings() -> Iterator[None]:
    """The app's settings, as Streamlit reads them next to pages.py."""
    before = {}
    for section, values in tomllib.loads((ROOT / "streamlit_config.toml").read_text()).items():
        for key, value in values.items():
            if not isinstance(value, dict):
                before[f"{section}.{key}"] = settings.get_option(f"{section}.{key}")
                settings.set_option(f"{section}.{key}", value)
    yield
    for key, value in before.items():
        settings.set_option(key, value)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders for runs and for the cache; the app's folder on the path, where Streamlit puts it."""
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(MAIN.parent))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A finished run of a tiny model, which no test changes."""
    folder = RunFolder.create(tmp_path_factory.mktemp("finished") / "tiny", RunConfig.parse(TINY))
    pipeline.run(folder.config, folder)
    before = folder.reliability.read()
    yield folder
    assert folder.reliability.read() == before, "a test changed the run that all share; it needs own_run"


@pytest.fixture
def with_run(finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a finished run that the app sees."""
    monkeypatch.setenv("SHPEFT_RUNS", str(finished.path.parent))
    return finished.name


@pytest.fixture
def own_run(finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A finished run that a test may change."""
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "own" / "tiny"))
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "own"))
    return folder


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Be:
    """Decides who uses the app."""
    return Be(monkeypatch)


@pytest.fixture
def assume_pass_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[PassTime], None]]:
    """Give the app a model's pass times instead of measuring them."""

    def assume(pass_time: PassTime) -> None:
        streamlit.cache_resource.clear()
        monkeypatch.setattr("shpeft.explanation.saliency.PassTime.measure", lambda _: pass_time)

    yield assume
    streamlit.cache_resource.clear()

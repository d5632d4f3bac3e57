"""The app's pages without a browser, its settings, and the guard that insists on them."""

import shutil
import time
import tomllib
from pathlib import Path

import pytest
import streamlit
from streamlit import config as settings
from streamlit.testing.v1 import AppTest

from shpeft import pipeline
from shpeft.config import PRESETS, RunConfig
from shpeft.datasets import load_dataset
from shpeft.jobs import manager
from shpeft.pipeline import describe_selection, expected
from shpeft.runs import RunFolder, find_run

ROOT = Path(__file__).resolve().parents[1]
MAIN = ROOT / "app" / "main.py"
PAGES = ("train", "importance", "overlap", "evaluate", "diagnose", "batch", "runs")
TINY = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "dataset": {"source": "phantom:fundus?n=36&size=32"},
    "selection": {"budget": 0.01, "images": 12},
    "training": {"epochs": 1},
}


@pytest.fixture(autouse=True)
def _own_settings():
    """The app's settings, as Streamlit reads them beside main.py."""
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
def runs(tmp_path, monkeypatch) -> Path:
    """A place for runs, and one for what is kept of images, that are empty."""
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SHPEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(MAIN.parent))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    """A run of a tiny model."""
    folder = RunFolder.create(tmp_path_factory.mktemp("finished") / "tiny", RunConfig.parse(TINY))
    pipeline.run(folder.config, folder)
    return folder


@pytest.fixture
def with_run(finished, monkeypatch) -> str:
    """The name of a finished run that the app sees."""
    monkeypatch.setenv("SHPEFT_RUNS", str(finished.path.parent))
    return finished.name


def opened(page: str = "train", run: str | None = None, **chosen: object) -> AppTest:
    """A page, with values that were typed into widgets before."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in chosen.items():
        app.session_state[key] = value
    if run:
        app.query_params["run"] = run
    app.run()
    if page != "train":
        app.switch_page(f"views/{page}.py")
        if run:
            app.query_params["run"] = run
        app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    """Everything that a page says in words."""
    kinds = (app.title, app.header, app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join([str(part.value) for kind in kinds for part in kind] + [m.value for m in app.metric])


def looked_at(app: AppTest) -> str:
    """The run that the address names."""
    found = app.query_params["run"]
    return found if isinstance(found, str) else found[0]


def test_the_copy_of_the_settings_beside_the_app_is_identical():
    assert (ROOT / "streamlit_config.toml").read_bytes() == (ROOT / "app" / ".streamlit" / "config.toml").read_bytes()


def test_the_settings_keep_the_app_on_this_machine_and_silent():
    found = tomllib.loads((ROOT / "streamlit_config.toml").read_text())
    assert found["server"]["address"] == "127.0.0.1"
    assert found["server"]["headless"] is True
    assert found["server"]["fileWatcherType"] == "none"
    assert found["server"]["maxUploadSize"] > 0
    assert found["browser"]["gatherUsageStats"] is False
    assert found["runner"]["postScriptGC"] is False


@pytest.mark.parametrize(
    ("key", "unsafe"),
    [
        ("server.address", "0.0.0.0"),
        ("server.address", None),
        ("browser.gatherUsageStats", True),
        ("runner.postScriptGC", True),
        ("server.fileWatcherType", "auto"),
        ("client.showErrorDetails", "full"),
    ],
)
def test_the_app_does_not_start_with_unsafe_settings(key, unsafe):
    settings.set_option(key, unsafe)
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert key in app.error[0].value
    assert "config.toml" in app.error[0].value
    assert not app.title
    assert not app.button


@pytest.mark.parametrize("page", PAGES)
def test_every_page_carries_the_notice_and_invites_when_there_is_no_run(page):
    app = opened(page)
    assert "Research use only, not a medical device." in words(app)
    assert not app.error
    if page != "train":
        assert "yet" in app.info[0].value


def test_the_budget_is_told_as_a_share_and_as_a_count():
    app = opened()
    found = describe_selection(RunConfig(), classes=3)
    assert f"**{found.selected:,}** of {found.backbone:,} backbone weights" in words(app)
    app.number_input(key="set_count").set_value(500).run()
    assert "**500** of" in words(app)
    assert app.select_slider(key="set_share").disabled


def test_the_form_leads_to_the_configuration_that_is_carried_out(runs):
    app = opened()
    app.segmented_control(key="set_kind").set_value("My images").run()
    app.text_input(key="set_folder").set_value("phantom:fundus?n=36&size=32").run()
    app.number_input(key="set_epochs").set_value(1).run()
    app.number_input(key="set_seed").set_value(7).run()
    app.selectbox(key="set_score").set_value("random").run()
    app.text_input(key="set_name").set_value("asked").run()
    next(button for button in app.button if button.label == "Start fine-tuning").click().run()
    assert looked_at(app) == "asked"
    made = find_run("asked").config
    assert (made.training.epochs, made.seed, made.selection.score) == (1, 7, "random")
    assert made.dataset.source == "phantom:fundus?n=36&size=32"
    assert made.training.lr == RunConfig().training.lr
    assert made.selection.budget == RunConfig().selection.budget
    manager(runs).shutdown()


def test_a_preset_sets_what_it_names_and_follows_the_settings():
    app = opened()
    assert app.segmented_control(key="preset").value == "Thorough"
    app.toggle(key="set_checkpointing").set_value(True).run()
    app.segmented_control(key="preset").set_value("Fast").run()
    assert app.selectbox(key="set_scope").value == "last:25%"
    assert not app.toggle(key="set_checkpointing").value
    app.toggle(key="set_cache").set_value(False).run()
    assert app.segmented_control(key="preset").value == "Custom"
    app.segmented_control(key="preset").set_value("Paper").run()
    assert (app.selectbox(key="set_scope").value, app.selectbox(key="set_expectation").value) == ("matrices", "batch")


def test_the_expected_time_of_each_preset_stands_before_the_start(monkeypatch):
    monkeypatch.setattr("shpeft.pipeline.estimate.seconds_a_pass", lambda *_: 0.1)
    streamlit.cache_resource.clear()  # what other tests measured
    app = opened()
    for _ in range(100):
        if "Expected on this computer" in words(app):
            break
        time.sleep(0.05)
        app.run()
    cases = [len(split) for split in load_dataset(RunConfig().dataset.source).splits]
    costs = [expected(RunConfig().with_preset(name), cases) for name in PRESETS]
    told = (
        f"{title}: **{cost}**" for title, cost in zip(("Fast", "Balanced", "Thorough", "Paper"), costs, strict=True)
    )
    assert " · ".join(told) in words(app)
    assert costs[0].seconds < costs[1].seconds < costs[2].seconds


def test_a_form_that_is_left_alone_gives_the_default_run():
    app = opened()
    next(button for button in app.button if button.label == "Start fine-tuning").click().run()
    assert find_run(looked_at(app)).config == RunConfig()
    manager().shutdown()


def test_what_is_typed_while_the_page_is_drawn_is_not_taken_back():
    app = opened()
    app.text_input(key="set_name").set_value("mine").run()
    app.run()
    assert app.text_input(key="set_name").value == "mine"
    assert not app.text_input(key="set_name").proto.set_value  # it would be the browser's value from then on


def test_what_was_chosen_is_still_chosen_after_a_look_at_another_page():
    app = opened()
    app.number_input(key="set_epochs").set_value(3).run()
    app.switch_page("views/runs.py").run()
    app.switch_page("views/train.py").run()
    assert app.number_input(key="set_epochs").value == 3


def test_wrong_settings_are_sentences_and_start_nothing(runs):
    app = opened(set_backbone="vit_smal_patch16_224")
    assert "vit_small_patch16_224" in app.error[0].value
    assert not [button for button in app.button if button.label == "Start fine-tuning"]
    app = opened()
    app.number_input(key="set_count").set_value(10**9).run()
    assert "more than" in app.error[0].value
    assert not runs.exists()


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


@pytest.fixture
def own_run(finished, tmp_path, monkeypatch) -> RunFolder:
    """A finished run that a test may change."""
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "own" / "tiny"))
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "own"))
    return folder


def pressed(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()

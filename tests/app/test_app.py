"""The app's settings and its guard; the form of the Train page; values that survive a change of page."""

import subprocess
import sys
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import streamlit
from streamlit import config as settings
from streamlit.testing.v1 import AppTest

from shpeft.config import PRESETS, RunConfig
from shpeft.datasets import load_dataset
from shpeft.jobs import manager
from shpeft.pipeline import estimate_cost, preview_selection
from shpeft.runs import find_run
from shpeft.runs.example import EXAMPLE
from tests.helpers.app_pages import (
    MAIN,
    PAGES,
    ROOT,
    button_labels,
    find_button,
    open_page,
    page_text,
    press,
    run_in_address,
)


def test_the_settings_next_to_the_app_are_an_identical_copy() -> None:
    assert (ROOT / "streamlit_config.toml").read_bytes() == (ROOT / "app" / ".streamlit" / "config.toml").read_bytes()


def test_the_settings_keep_the_app_local_and_silent() -> None:
    config = tomllib.loads((ROOT / "streamlit_config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["headless"] is True
    assert config["server"]["fileWatcherType"] == "none"
    assert config["server"]["maxUploadSize"] > 0
    assert config["browser"]["gatherUsageStats"] is False
    assert config["runner"]["postScriptGC"] is False


@pytest.mark.parametrize(
    ("key", "unsafe"),
    [
        ("server.address", "0.0.0.0"),
        ("server.address", None),
        ("server.allowedHosts", []),
        ("server.enableCORS", False),
        ("server.enableXsrfProtection", False),
        ("browser.gatherUsageStats", True),
        ("runner.postScriptGC", True),
        ("server.fileWatcherType", "auto"),
        ("client.showErrorDetails", "full"),
    ],
)
def test_the_app_does_not_start_with_unsafe_settings(key: str, unsafe: object) -> None:
    settings.set_option(key, unsafe)
    app = AppTest.from_file(str(MAIN), default_timeout=60).run()
    assert key in app.error[0].value
    assert "config.toml" in app.error[0].value
    assert not app.title
    assert not app.button


def test_no_module_of_the_app_hides_an_installed_one() -> None:
    modules = {path.stem for path in MAIN.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {"access", "main", "pages", "views", "widgets"} <= modules
    assert not (modules - {"__init__"}) & {*packages_distributions(), *sys.stdlib_module_names}


def test_home_is_drawn_before_the_libraries_are_imported() -> None:
    code = "import app.views.home.recent_runs, app.widgets.session, sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split() == ["False"], result.stderr


def _open_hdf_store() -> None:
    import pandas
    import streamlit as st

    try:
        pandas.HDFStore("missing.h5", "r")
    except (ImportError, OSError) as error:
        st.text(str(error))


def test_pandas_finds_its_optional_dependencies_inside_the_app() -> None:
    app = AppTest.from_function(_open_hdf_store, default_timeout=60).run()
    assert not app.exception
    assert any(phrase in app.text[0].value for phrase in ("pytables", "does not exist"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_the_notice_and_works_with_the_example_before_there_is_a_run(page: str) -> None:
    app = open_page(page)
    assert "Research use only, not a medical device." in page_text(app)
    assert not app.error
    if page in ("importance", "overlap", "evaluate", "diagnose"):
        assert app.selectbox(key="picked").value == EXAMPLE


def test_the_budget_is_shown_as_a_share_and_as_a_count() -> None:
    app = open_page("train")
    selection = preview_selection(RunConfig(), classes=3)
    assert f"**{selection.selected:,}** of {selection.backbone:,} backbone weights" in page_text(app)
    app.number_input(key="set_count").set_value(500).run()
    assert "**500** of" in page_text(app)
    assert app.select_slider(key="set_share").disabled


def test_the_form_makes_the_configuration_of_the_run(runs: Path) -> None:
    app = open_page("train", set_kind="Folder", set_folder="phantom:fundus?n=36&size=32")
    app.segmented_control(key="set_must_not_miss").set_value("exudates").run()
    app.select_slider(key="set_sensitivity").set_value(0.9).run()
    app.number_input(key="set_epochs").set_value(1).run()
    app.number_input(key="set_seed").set_value(7).run()
    app.selectbox(key="set_score").set_value("random").run()
    app.text_input(key="set_name").set_value("my first").run()
    press(app, "Start")
    assert run_in_address(app) == "my_first"
    config = find_run("my_first").config
    assert (config.decision.must_not_miss, config.decision.sensitivity) == ("exudates", 0.9)
    assert (config.training.epochs, config.seed, config.selection.score) == (1, 7, "random")
    assert config.dataset.source == "phantom:fundus?n=36&size=32"
    assert config.training.lr == RunConfig().training.lr
    assert config.selection.budget == RunConfig().selection.budget
    manager(runs).shutdown()


def test_a_preset_sets_its_settings_and_follows_them() -> None:
    app = open_page("train")
    assert app.segmented_control(key="preset").value == "Balanced"
    app.selectbox(key="set_checkpointing").set_value("always").run()
    app.segmented_control(key="preset").set_value("Fast").run()
    assert app.selectbox(key="set_scope").value == "last:25%"
    assert app.selectbox(key="set_checkpointing").value == "auto"
    app.toggle(key="set_cache").set_value(False).run()
    assert app.segmented_control(key="preset").value == "Custom"
    app.segmented_control(key="preset").set_value("Paper").run()
    assert (app.selectbox(key="set_scope").value, app.selectbox(key="set_expectation").value) == ("matrices", "batch")


def test_the_expected_time_of_each_preset_is_shown_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shpeft.pipeline.cost_estimate.seconds_a_pass", lambda *_: 0.1)
    streamlit.cache_resource.clear()  # measurements of other tests
    app = open_page("train", set_kind="Drawn images")
    for _ in range(100):
        if "Expected on this computer" in page_text(app):
            break
        time.sleep(0.05)
        app.run()
    cases = [len(split) for split in load_dataset(RunConfig().dataset.source).splits]
    costs = [estimate_cost(RunConfig().with_preset(name), cases) for name in PRESETS]
    estimates = (
        f"{title}: **{cost}**" for title, cost in zip(("Fast", "Balanced", "Thorough", "Paper"), costs, strict=True)
    )
    assert " · ".join(estimates) in page_text(app)
    assert costs[0].seconds < costs[1].seconds < costs[2].seconds
    drawn = [str(getattr(part, "label", "") or getattr(part, "value", "")) for part in app.main]
    (total,) = (at for at, text in enumerate(drawn) if text.endswith("memory on this computer."))
    assert drawn.index("Start") < total  # what comes and goes above a button moves it away from a click under way


def test_an_untouched_form_makes_the_default_run() -> None:
    app = open_page("train")
    assert find_button(app, "Start").disabled  # no images yet
    app.segmented_control(key="set_kind").set_value("Drawn images").run()
    press(app, "Start")
    assert find_run(run_in_address(app)).config == RunConfig()
    manager().shutdown()


def test_a_redraw_does_not_overwrite_what_is_being_typed() -> None:
    app = open_page("train")
    app.text_input(key="set_name").set_value("mine").run()
    app.run()
    assert app.text_input(key="set_name").value == "mine"
    assert not app.text_input(key="set_name").proto.set_value  # it would replace the browser's text


def test_values_of_a_form_survive_a_change_of_page() -> None:
    app = open_page("train")
    app.number_input(key="set_epochs").set_value(3).run()
    app.segmented_control(key="set_kind").set_value("Folder").run()
    app.text_input(key="set_folder").set_value("/nowhere").run()
    app.segmented_control(key="set_kind").set_value("MedMNIST").run()  # the folder's field is hidden now
    app.switch_page("views/runs/page.py").run()
    app.switch_page("views/train/page.py").run()
    assert app.number_input(key="set_epochs").value == 3
    assert app.segmented_control(key="set_kind").value == "MedMNIST"
    app.segmented_control(key="set_kind").set_value("Folder").run()
    assert app.text_input(key="set_folder").value == "/nowhere"


def test_wrong_settings_are_sentences_and_start_nothing(runs: Path) -> None:
    app = open_page("train", set_backbone="vit_smal_patch16_224")
    assert "vit_small_patch16_224" in app.error[0].value
    assert "Start" not in button_labels(app)
    app = open_page("train")
    app.number_input(key="set_count").set_value(10**9).run()
    assert "more than" in app.error[0].value
    app = open_page("train", set_image_size="224x")
    assert ["height x width" in error.value for error in app.error] == [True]  # once
    assert not runs.exists()

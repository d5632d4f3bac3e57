"""The app's pages without a browser, its settings, and the guard that insists on them."""

import io
import shutil
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import streamlit
from PIL import Image
from streamlit import config as settings
from streamlit.testing.v1 import AppTest

from shpeft import pipeline, trust
from shpeft.config import PRESETS, RunConfig
from shpeft.datasets import checking, load_dataset
from shpeft.datasets.cache import usage
from shpeft.jobs import manager
from shpeft.pipeline import describe_selection, expected
from shpeft.runs import RunFolder, find_run

from .test_datasets_folder import build

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


def test_a_folder_that_does_not_exist_is_a_sentence():
    app = opened()
    app.segmented_control(key="set_kind").set_value("My images").run()
    app.text_input(key="set_folder").set_value("/nowhere/images").run()
    next(button for button in app.button if button.label == "Look at the images").click().run()
    assert "no such folder" in app.error[0].value


def test_a_public_set_is_explained_and_read_from_its_folder(tmp_path):
    app = opened()
    app.segmented_control(key="set_kind").set_value("Public set").run()
    app.selectbox(key="set_recipe").set_value("recipe:oct2017").run()
    assert "CNV-1016042-12.jpeg" in app.text[0].value
    assert not [button for button in app.button if button.label == "Start fine-tuning"]
    app.text_input(key="set_recipe_folder").set_value(str(tmp_path)).run()
    next(button for button in app.button if button.label == "Look at the images").click().run()
    assert "'recipe:oct2017' expects 'train/CNV'" in app.error[0].value
    for split, patients in (("train", range(6)), ("test", range(5, 8))):
        for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
            for patient in patients:
                place = tmp_path / split / name / f"{name}-{patient}-1.jpeg"
                place.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([ord(name[1]), patient, len(split)]).integers(0, 255, (9, 9, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place)
    app.selectbox(key="set_leakage").set_value("drop").run()
    next(button for button in app.button if button.label == "Look at the images").click().run()
    assert not app.error
    assert "4 images nearer to training left out" in words(app)
    assert "Tampu" in words(app)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_a_folder_is_opened_in_the_background_and_can_be_stopped(tmp_path, monkeypatch):
    go = threading.Event()

    def slow(*args, original=checking.open_image):
        assert go.wait(30)
        return original(*args)

    monkeypatch.setattr(checking, "open_image", slow)
    (build(tmp_path / "images", {"a": 8, "b": 8}) / "a" / "cut.png").write_text("no image")
    app = opened(set_kind="My images", set_folder=str(tmp_path / "images"))
    press(app, "Look at the images")
    assert "Stop" in labels(app)
    begin = time.monotonic()
    app.number_input(key="set_epochs").set_value(4).run()  # the page goes on being of use
    assert time.monotonic() - begin < 5
    assert app.number_input(key="set_epochs").value == 4
    assert "Start fine-tuning" in labels(app)
    press(app, "Stop")
    assert "Stop" not in labels(app)
    go.set()
    press(app, "Look at the images")
    for _ in range(100):
        if "Stop" not in labels(app):
            break
        time.sleep(0.05)
        app.run()
    assert not app.error
    assert any("1 damaged images" in part.label for part in app.expander)
    listed = [list(frame.value.iloc[0]) for frame in app.dataframe if "reason" in frame.value]
    assert listed[0][0] == "a/cut.png"


def test_what_is_kept_is_told_and_can_be_emptied(tmp_path):
    load_dataset(build(tmp_path / "images", {"a": 8, "b": 8}))
    app = opened(set_kind="My images", set_folder=str(tmp_path / "images"))
    assert "MiB of resized images" in words(app)
    assert str(usage().folder) not in words(app)
    press(app, "Empty the cache")
    assert usage(count=True).files == 0
    assert app.toggle(key="set_kept").value
    app.toggle(key="set_kept").set_value(False).run()
    press(app, "Look at the images")
    assert usage(count=True).files == 0


def test_files_that_cannot_be_read_are_listed_where_they_are_refused(tmp_path):
    (build(tmp_path / "images", {"a": 8, "b": 8}) / "a" / "cut.png").write_text("no image")
    app = opened(set_kind="My images", set_folder=str(tmp_path / "images"), set_damaged="refuse")
    press(app, "Look at the images")
    assert "1 image file of 'images' cannot be read" in app.error[0].value
    assert "a/cut.png: " in app.code[0].value


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_finished_run(page, with_run):
    app = opened(page, with_run)
    assert not app.error
    assert looked_at(app) == with_run


def test_the_result_stands_beside_the_linear_probe(with_run, finished):
    metrics = finished.metrics()
    text = words(opened("train", with_run))
    for model in ("finetuned", "probe"):
        assert f"{metrics[model]['macro_auroc']['value']:.3f} [" in text
    assert f"{metrics['weights']['selected']:,} of {metrics['weights']['backbone']:,} backbone weights" in text


@pytest.mark.parametrize("page", ["train", "evaluate", "runs"])
def test_an_address_of_a_run_that_was_renamed_tells_which_there_are(page, with_run, finished):
    app = opened(page, "old-name")
    said = [str(part.value) for kind in (app.warning, app.info, app.error) for part in kind]
    assert any(f"no run called old-name; it may have been renamed or deleted. There are {with_run}." in s for s in said)
    assert str(finished.path.parent) not in "".join(said)


def test_an_address_cannot_lead_out_of_the_runs(with_run):
    assert "cannot be a run's name" in opened("train", "../tiny").warning[0].value


def test_an_uploaded_image_is_diagnosed_without_its_name(with_run, finished):
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "PNG")
    app = opened("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.png", data.getvalue(), "image/png").run()
    assert not app.error
    assert app.metric[0].value in finished.predictions().classes
    assert "MUELLER" not in words(app) + str(app)


def test_an_upload_that_is_no_image_is_a_sentence(with_run):
    app = opened("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.txt", b"no image", "text/plain").run()
    assert app.error[0].value.startswith("The uploaded file cannot be read as an image")
    assert "Upload another file, or this one exported anew." in [caption.value for caption in app.caption]
    assert not app.metric


@pytest.fixture
def own_run(finished, tmp_path, monkeypatch) -> RunFolder:
    """A finished run that a test may change."""
    folder = RunFolder.open(shutil.copytree(finished.path, tmp_path / "own" / "tiny"))
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "own"))
    return folder


def pressed(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def test_a_threshold_is_chosen_and_kept(own_run):
    app = opened("evaluate", own_run.name)
    assert "These choices are kept with the run" in words(app)
    app.selectbox(key=f"positive-{own_run.name}").set_value("exudates").run()
    assert not app.error
    assert own_run.trust().operating is None
    pressed(app, "Keep these choices with the run")
    point = own_run.trust().operating
    assert point.rule.positive == "exudates"
    assert f"{point.threshold:.3f}" in words(app)
    assert "These choices are kept with the run" in words(app)
    assert opened("evaluate", own_run.name).selectbox(key=f"positive-{own_run.name}").value == "exudates"


def test_choices_that_lead_to_nothing_are_a_sentence(own_run):
    app = opened("evaluate", own_run.name)
    app.segmented_control(key=f"by-{own_run.name}").set_value("risk").run()
    app.number_input(key=f"abstention-risk-{own_run.name}").set_value(0.0).run()
    surest = trust.risk_coverage(own_run.validation()).risk.min()
    assert bool(app.error) == (surest > 0)
    assert "These choices are kept with the run" in words(app) or not app.error


def test_the_images_behind_a_cell_are_shown(with_run, finished):
    found = finished.predictions()
    true, guess = found.classes[found.labels[0]], found.classes[int(found.probabilities[0].argmax())]
    app = opened("evaluate", with_run)
    app.selectbox(key="cell").set_value(f"{true}, taken for {guess}").run()
    assert not app.error
    assert f"{len(trust.cases_in(found, true, guess))} test images; below each" in words(app)


def test_a_run_of_an_older_version_is_evaluated_as_far_as_it_goes(own_run):
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors"):
        (own_run.path / name).unlink()
    app = opened("evaluate", own_run.name)
    assert "made by an older version" in words(app)
    assert "AUROC" in [metric.label for metric in app.metric]
    pressed(app, "Run the model over its validation images")
    assert "Temperature" in [metric.label for metric in app.metric]
    assert own_run.trust() is not None


def _with_errors(kind: str) -> None:
    import shared

    from shpeft.errors import DatasetError

    with shared.boundary():
        raise (
            DatasetError("the folder is empty. Choose another.")
            if kind == "expected"
            else KeyError("/home/x/MUELLER.png")
        )


@pytest.mark.parametrize("kind", ["expected", "bug"])
def test_an_expected_error_is_a_sentence_and_anything_else_is_a_bug(kind):
    app = AppTest.from_function(_with_errors, args=(kind,), default_timeout=60).run()
    assert not app.exception
    if kind == "expected":
        assert app.error[0].value == "The folder is empty. Choose another."
        assert not app.expander
    else:
        assert "bug in shpeft (KeyError)" in app.error[0].value
        assert app.expander[0].label == "Details for a report"
        assert "MUELLER" not in app.code[0].value

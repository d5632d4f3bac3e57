"""The form of the Train page where datasets are named: public sets, folders in the background, unreadable files."""
# ruff: noqa: F401 (fixtures are imported by name)

import threading
import time

import numpy as np
from PIL import Image

from shpeft.datasets import checking, load_dataset
from shpeft.datasets.cache import usage
from tests.test_app import _own_settings, labels, opened, press, runs, words

from .test_datasets_folder import build


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

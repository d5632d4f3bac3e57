"""The data form of the Train page: public sets, background scans of folders, unreadable files."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shpeft.datasets import load_dataset, scan
from shpeft.datasets.cache import usage
from shpeft.images import open_image
from tests.helpers.app_pages import button_labels, find_button, open_page, page_text, press
from tests.helpers.image_folders import build_folder


def test_a_missing_folder_is_an_error_on_the_page() -> None:
    app = open_page("train")
    app.segmented_control(key="set_kind").set_value("Folder").run()
    app.text_input(key="set_folder").set_value("/nowhere/images").run()
    assert "There is no file or folder /nowhere/images" in app.error[0].value
    assert find_button(app, "Start").disabled


def test_a_public_set_is_explained_and_read_from_its_folder(tmp_path: Path) -> None:
    app = open_page("train")
    app.segmented_control(key="set_kind").set_value("Public set").run()
    app.selectbox(key="set_recipe").set_value("recipe:oct2017").run()
    assert "CNV-1016042-12.jpeg" in app.text[0].value
    assert find_button(app, "Start").disabled
    app.text_input(key="set_recipe_folder").set_value(str(tmp_path)).run()
    assert r"'recipe\:oct2017' expects 'train/CNV'" in app.error[0].value
    for split, patients in (("train", range(6)), ("test", range(5, 8))):
        for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
            for patient in patients:
                path = tmp_path / split / name / f"{name}-{patient}-1.jpeg"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([ord(name[1]), patient, len(split)]).integers(0, 255, (9, 9, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    app.selectbox(key="set_leakage").set_value("drop").run()
    assert not app.error
    assert "4 images nearer to training left out" in page_text(app)
    assert "Tampu" in page_text(app)


def test_a_folder_is_opened_in_the_background_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(*args: Any, original: Any = open_image) -> Any:
        assert go.wait(30)
        return original(*args)

    monkeypatch.setattr(scan, "open_image", slow)
    (build_folder(tmp_path / "images", {"a": 8, "b": 8}) / "a" / "cut.png").write_text("no image")
    app = open_page("train", set_kind="Folder", set_folder=str(tmp_path / "images"))
    assert "Stop" in button_labels(app)
    begin = time.monotonic()
    app.number_input(key="set_epochs").set_value(4).run()  # the page stays usable
    assert time.monotonic() - begin < 5
    assert app.number_input(key="set_epochs").value == 4
    assert "Start" in button_labels(app)
    press(app, "Stop")
    assert "Stop" not in button_labels(app)
    go.set()
    press(app, "Load the images")
    for _ in range(100):
        if "Stop" not in button_labels(app):
            break
        time.sleep(0.05)
        app.run()
    assert not app.error
    assert any("Damaged images, left out (1)" in part.label for part in app.expander)
    listed = [list(frame.value.iloc[0]) for frame in app.dataframe if "reason" in frame.value]
    assert listed[0][0] == "a/cut.png"


def test_the_size_of_the_cache_is_shown_and_it_can_be_emptied(tmp_path: Path) -> None:
    load_dataset(build_folder(tmp_path / "images", {"a": 8, "b": 8}))
    app = open_page("train", set_kind="Folder", set_folder=str(tmp_path / "images"))
    assert "MiB of resized images" in page_text(app)
    assert str(usage().folder) not in page_text(app)
    press(app, "Empty the cache")
    assert usage(count=True).files == 0
    assert app.toggle(key="set_image_cache").value
    app.toggle(key="set_image_cache").set_value(False).run()
    assert usage(count=True).files == 0


def test_refused_unreadable_files_are_listed(tmp_path: Path) -> None:
    (build_folder(tmp_path / "images", {"a": 8, "b": 8}) / "a" / "cut.png").write_text("no image")
    app = open_page("train", set_kind="Folder", set_folder=str(tmp_path / "images"), set_on_unreadable="refuse")
    assert "1 image file of 'images' cannot be read" in app.error[0].value
    assert "a/cut.png: " in app.code[0].value

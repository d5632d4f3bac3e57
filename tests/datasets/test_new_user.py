"""Forty mistakes of a new user: each ends in a sentence that says what is wrong and what to do."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from shpeft.backbones import create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset, table
from shpeft.errors import ShpeftError, notes_of
from shpeft.images import open_image

CLASSES = ("healthy", "ill")


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8))


class Desk:
    """A new user's folder, with a dataset that is right until something is changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        for number in range(24):
            home = self.data / "all" / CLASSES[number % 2]
            home.mkdir(parents=True, exist_ok=True)
            picture(number).save(home / f"{number:02}.png")
        self.images = self.data / "all"

    def split(self) -> Path:
        """Return a folder with train and test."""
        for split in ("train", "test"):
            shutil.copytree(self.images, self.root / "split" / split)
        return self.root / "split"

    def table(self, header: str = "path,label", name: str = "t.csv", change: Any = None, **options: Any) -> Path:
        """Write a table of the images, with every row changed."""
        rows = [[str(path), path.parent.name] for path in sorted(self.images.rglob("*.png"))]
        if change is not None:
            rows = [change(number, row) for number, row in enumerate(rows)]
        with (self.root / name).open("w", newline="", encoding=options.get("encoding", "utf-8")) as handle:
            handle.write(header + "\n")
            csv.writer(handle, delimiter=options.get("delimiter", ",")).writerows(rows)
        return self.root / name

    def folder(self, name: str) -> Path:
        (self.root / name).mkdir()
        return self.root / name

    def without(self, home: Path, name: str) -> Path:
        """Return a folder after removing a folder in it."""
        shutil.rmtree(home / name)
        return home

    def file(self, name: str, content: bytes = b"?") -> Path:
        (self.root / name).write_bytes(content)
        return self.root / name


def load(source: str | Path, **options: Any) -> object:
    return load_dataset(source, cache=False, **options)


def empty_split(desk: Desk, name: str) -> Path:
    (desk.split() / name).mkdir(exist_ok=True)
    return desk.root / "split"


def parse(**sections: Any) -> object:
    return RunConfig.parse(sections)


def weights(desk: Desk, name: str = "test_vit", **arguments: Any) -> Path:
    module = timm.create_model("test_vit", num_classes=0, img_size=32, **arguments)
    safetensors.torch.save_file(module.state_dict(), desk.root / "w.safetensors")
    return desk.root / "w.safetensors"


def model(name: str = "test_vit", **options: Any) -> object:
    return create_backbone(name, classes=CLASSES, **options)


def pages(desk: Desk) -> Path:
    picture(0).save(desk.root / "stack.tif", save_all=True, append_images=[picture(1)])
    return desk.root / "stack.tif"


def pickled(desk: Desk) -> Path:
    torch.save({"a": torch.zeros(1)}, desk.root / "w.pth")
    return desk.root / "w.pth"


MISTAKES: dict[str, tuple[Callable[[Desk], object], str]] = {
    # folders
    "a misspelt folder": (lambda d: load(d.root / "dta"), r"no such folder"),
    "a misspelt phantom": (lambda d: load("phantom:fundsu"), r"Did you mean phantom:fundus"),
    "a misspelt recipe": (lambda d: load("recipe:bussi=x"), r"no recipe 'bussi'. Did you mean"),
    "a misspelt kind of source": (lambda d: load("phantm:fundus"), r"Did you mean phantom:fundus"),
    "a recipe without its folder": (lambda d: load("recipe:busi"), r"recipe:busi=FOLDER|needs the folder"),
    "no name at all": (lambda d: load(" "), r"No dataset is named"),
    "an empty folder": (lambda d: load(d.folder("e")), r"no images in 'e'.*Expected train/"),
    "images outside class folders": (lambda d: load(d.images / "ill"), r"12 image files lie outside class folders"),
    "the folder above": (lambda d: load(d.data), r"only the class 'all'.*looks like a dataset itself"),
    "an archive": (lambda d: load(d.file("d.zip")), r"is a file, and a dataset is a folder. Unpack it first"),
    "one class": (
        lambda d: load(d.without(d.images, "ill")),
        r"only the class 'healthy'.*two classes",
    ),
    "a test folder alone": (lambda d: load(d.without(d.split(), "train")), r"no train folder"),
    "an empty val folder": (lambda d: load(empty_split(d, "val")), r"'val'.* has no images.*remove it"),
    "two names of one split": (lambda d: load(empty_split(d, "training")), r"both train and training"),
    "a class in one split alone": (lambda d: load(d.without(d.split() / "test", "ill").parent), r"test lacks 'ill'"),
    "a text file as an image": (lambda d: open_image(d.file("a.png")), r"is not a PNG, JPEG"),
    "a stack of pages": (lambda d: open_image(pages(d)), r"has 2 frames, and no frame was chosen.*--frame 0"),
    # tables
    "a workbook": (lambda d: load(d.file("t.xlsx")), r"is a workbook.*Save its sheet as 'CSV UTF-8'"),
    "other columns": (lambda d: load(d.table("scan,dx")), r"no column .*for the path; it has 'scan', 'dx'.*columns"),
    "a misspelt role": (
        lambda d: load(d.table(), columns={"lable": "x"}),
        r"no column for 'lable'. Did you mean label",
    ),
    "a column that is not there": (lambda d: load(d.table(), columns={"label": "dx"}), r"no column 'dx' for the label"),
    "another encoding": (
        lambda d: load(d.table(change=lambda _, r: [r[0], "ill" + chr(228)], encoding="latin-1")),
        r"is not text in UTF-8. In Excel, save it as",
    ),
    "a row without a label": (
        lambda d: load(d.table(change=lambda n, r: [r[0], r[1] * (n > 3)])),
        r"without a path or a",
    ),
    "several findings": (
        lambda d: load(d.table(change=lambda n, r: [r[0], "edema|mass" if n == 3 else r[1]]), task="single-label"),
        r"label 'edema\|mass', which names 2 findings.*Set the task to multi-label",
    ),
    "paths of another computer": (
        lambda d: load(d.table(change=lambda _, r: ["C:/x/" + r[0][-6:], r[1]])),
        r"None of the",
    ),
    "an unknown split": (
        lambda d: load(d.table("path,label,split", change=lambda _, r: [*r, "trian"])),
        r"names a split 'trian'; known are train",
    ),
    "a table of test rows": (
        lambda d: load(d.table("path,label,split", change=lambda _, r: [*r, "test"])),
        r"no rows of the split train",
    ),
    "an empty table": (lambda d: load(d.file("t.csv", b"path,label\n")), r"no rows"),
    "a table that is binary": (lambda d: load(d.file("t.parquet")), r"t\.parquet cannot be read"),
    # settings
    "a share above one": (lambda d: parse(selection={"budget": "200%"}), r"share of more than all weights.*100%"),
    "a budget in words": (lambda d: parse(selection={"budget": "few"}), r"'few' is not a number; give a share"),
    "no budget": (lambda d: parse(selection={"budget": 0}), r"selection\.budget: 0 is no budget"),
    "a misspelt setting": (lambda d: parse(training={"epoch": 3}), r"no such setting. Did you mean epochs"),
    "a misspelt score": (lambda d: parse(selection={"score": "hybird"}), r"selection\.score: Input should be 'hybrid'"),
    "a scope that is none": (lambda d: parse(selection={"scope": "last"}), r"selection\.scope"),
    "a window that is none": (lambda d: load(d.images, window="lungs"), r"no window 'lungs'.*Did you mean lung"),
    "all images for the test": (lambda d: load(d.images, test_fraction=1.0), r"less than 1, for example 0\.2"),
    "a device that is not here": (lambda d: resolve_device("cuda:99"), r"cannot be used.*Use 'auto' or 'cpu'"),
    # models
    "a misspelt backbone": (lambda d: model("vit_small_patch14_dino2"), r"Did you mean vit_small_patch14_dinov2"),
    "a repository without hf-hub": (lambda d: model("MahmoodLab/UNI"), r"hf-hub:MahmoodLab/UNI"),
    "no network": (lambda d: model("vit_small_patch14_dinov2"), r"not in the cache.*--weights FILE"),
    "weights that are not there": (lambda d: model(weights=d.root / "w.st"), r"There is no file .*w\.st"),
    "a pickled checkpoint": (lambda d: model(weights=pickled(d)), r"Pickled checkpoints can run code.*convert it"),
    "weights of another model": (
        lambda d: model("test_convnext", weights=weights(d)),
        r"They may belong to another model",
    ),
    "weights with LayerScale": (
        lambda d: model(weights=weights(d, init_values=1.0)),
        r"They fit with --model-arg init_v",
    ),
    "an image size between patches": (lambda d: model(weights="random", image_size=50), r"Use a multiple of 16"),
    "an argument of no model": (lambda d: model(weights="random", model_args=["dept=3"]), r"Did you mean depth"),
    "two heads": (
        lambda d: model("deit_tiny_distilled_patch16_224", weights="random"),
        r"two heads.*deit_tiny_patch16",
    ),
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_sentence(mistake: str, desk: Desk) -> None:
    make, sentence = MISTAKES[mistake]
    with pytest.raises(ShpeftError, match=sentence) as caught:
        make(desk)
    message = str(caught.value)
    assert message.rstrip()[-1] in ".?)]" or "\n- " in message or "convert it" in message
    assert "Traceback" not in message
    assert len(message) < 900


def test_there_are_forty() -> None:
    assert len(MISTAKES) >= 40


def test_what_is_right_loads(desk: Desk) -> None:
    for source in (desk.images, desk.split(), desk.table()):
        assert load_dataset(source, cache=False).classes == CLASSES


def test_tables_as_the_world_writes_them(desk: Desk) -> None:
    for number, (header, options) in enumerate(
        [
            ("path;label", {"delimiter": ";"}),
            ("path\tlabel", {"delimiter": "\t"}),
            ("path;label", {"delimiter": ";", "encoding": "utf-8-sig"}),
            ("path\tlabel", {"delimiter": "\t", "encoding": "utf-16"}),
        ]
    ):
        assert load_dataset(desk.table(header, f"t{number}.csv", **options), cache=False).classes == CLASSES
    assert load_dataset(desk.table(name="UPPER.CSV"), cache=False).classes == CLASSES


def test_a_folder_with_a_similar_name_is_a_note_and_not_in_the_message(desk: Desk) -> None:
    with pytest.raises(ShpeftError) as caught:
        load(desk.root / "dat")
    assert notes_of(caught.value) == [f"{desk.data}: a folder or table with a similar name"]
    assert str(desk.data) + "'" not in str(caught.value)


# -- labels


def test_numbers_in_class_names_sort_by_value(desk: Desk) -> None:
    path = desk.table("path,label,split", change=lambda n, row: [row[0], str(n % 12), ("train", "test")[n // 12]])
    layout, _ = table.discover({"": path}, {})
    assert layout.classes == tuple(map(str, range(12)))
    grades = desk.root / "grades"
    for number in range(1, 13):
        (grades / f"grade {number}").mkdir(parents=True)
        for copy in range(4):
            picture(100 * number + copy).save(grades / f"grade {number}" / f"{copy}.png")
    classes = load_dataset(grades, cache=False, val_fraction=0.4).classes
    assert classes == tuple(f"grade {number}" for number in range(1, 13))


def test_a_run_with_another_order_of_classes_is_served(desk: Desk) -> None:
    data = load_dataset(desk.images, cache=False)
    turned = data.with_classes(("ill", "healthy"))
    assert turned.classes == turned.test.classes == ("ill", "healthy")
    assert [turned.classes[label] for label in turned.test.labels] == [
        data.classes[label] for label in data.test.labels
    ]
    with pytest.raises(ShpeftError, match="same classes"):
        data.with_classes(("ill", "well"))


def test_an_image_under_two_labels_is_named(desk: Desk) -> None:
    shutil.copy(desk.images / "ill" / "01.png", desk.images / "healthy" / "again.png")
    card = load_dataset(desk.images, cache=False).card
    assert card["contradictory"] == [["healthy/again.png and ill/01.png", "the same image under healthy and ill"]]
    assert (
        "1 image stands under two labels with the same content ('healthy' and 'ill'): all 2 files left out."
        in (card["warnings"])
    )

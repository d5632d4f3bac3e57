"""Text and markers over a dataset: counts by class, examples, and a warning where they give the class away."""

from pathlib import Path

import pytest
from PIL import ImageDraw, ImageFont

from shpeft.datasets import Dataset, load_dataset
from shpeft.datasets.marked_images import MarkedImages, find_marked_images


def labeled(root: Path, marked: dict[str, int]) -> Dataset:
    """Return ultrasound phantoms in folders; the first images of a class carry a text."""
    source = load_dataset("phantom:ultrasound?n=90&size=128").train
    number = dict.fromkeys(marked, 0)
    for position in range(len(source)):
        image, name = source.image(position), source.classes[source.labels[position]]
        if number[name] < marked[name]:
            font = ImageFont.load_default(16)
            ImageDraw.Draw(image).text((12, 12), "RT AXILLA", fill="white", font=font)
        number[name] += 1
        for split in ("train", "test"):
            path = root / split / name / f"{position}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return load_dataset(root, val_fraction=0.1)


@pytest.fixture
def classes() -> tuple[str, ...]:
    return load_dataset("phantom:ultrasound?n=12&size=64").classes


def test_marks_of_one_class_are_a_shortcut(tmp_path: Path, classes: tuple[str, ...]) -> None:
    marked = find_marked_images(labeled(tmp_path, dict.fromkeys(classes, 0) | {classes[1]: 12}).train)
    assert marked.marked[classes[1]] == len(marked.rows) >= 8
    assert f"visible in {len(marked.rows)} of {marked.total} images" in marked.sentence
    assert marked.shortcut is not None
    assert f"images of '{classes[1]}'" in marked.shortcut
    assert marked.to_dict()["sentences"] == [marked.sentence, marked.shortcut]


def test_marks_of_all_classes_are_counted_and_no_shortcut(tmp_path: Path, classes: tuple[str, ...]) -> None:
    data = labeled(tmp_path, dict.fromkeys(classes, 5))
    marked = find_marked_images(data.train)
    assert min(marked.marked.values()) >= 3
    assert marked.shortcut is None
    for row, marks in marked.rows:
        assert marks[0].box[1] < 40, row


def test_images_without_marks_say_nothing() -> None:
    marked = find_marked_images(load_dataset("phantom:mri?n=60&size=96").train)
    assert (marked.sentence, marked.shortcut, marked.to_dict()["sentences"]) == ("", None, [])
    assert marked.total == sum(marked.examined.values())


def test_a_search_that_is_out_of_time_has_as_many_of_each_class() -> None:
    train = load_dataset("phantom:fundus?n=90&size=64").train
    calls = []
    marked = find_marked_images(train, progress=lambda *seen: calls.append(seen))
    assert calls[0] == ("Looking for text and markers", 0, len(train))
    assert max(marked.examined.values()) - min(marked.examined.values()) <= 1
    assert find_marked_images(train, seconds=-1.0).total == 0


@pytest.mark.parametrize(
    ("ill", "well", "warned"), [((20, 20), (0, 20), True), ((3, 20), (0, 20), False), ((10, 20), (10, 20), False)]
)
def test_a_difference_beyond_chance_is_a_shortcut(ill: tuple[int, int], well: tuple[int, int], warned: bool) -> None:
    rows = tuple((row, ()) for row in range(ill[0] + well[0]))
    marked = MarkedImages({"ill": ill[1], "well": well[1]}, {"ill": ill[0], "well": well[0]}, rows, ill[1] + well[1])
    assert (marked.shortcut is not None) == warned

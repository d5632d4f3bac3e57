import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset, Leakage, UnreadableImage, notes_of
from tests.helpers.image_folders import build_folder, write_picture

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


GIVEN = {"train/healthy": 10, "train/sick": 10, "test/healthy": 3, "test/sick": 4}


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return build_folder(tmp_path / "given", GIVEN)


def test_a_given_split_stays_and_val_is_drawn_from_train(given: Path) -> None:
    data = load_dataset(given, val_fraction=0.3)
    assert data.classes == ("healthy", "sick")
    assert data.card["counts"] == {
        "train": {"healthy": 7, "sick": 7},
        "val": {"healthy": 3, "sick": 3},
        "test": {"healthy": 3, "sick": 4},
    }
    assert "test as given" in data.card["split_rule"]
    ids = [id for split in data.splits for id in split.ids]
    assert len(set(ids)) == len(ids) == 27
    assert data.name == "given"


def test_without_a_split_it_is_seeded_and_stratified(tmp_path: Path) -> None:
    root = build_folder(tmp_path / "flat", {"a": 20, "b": 10})
    first, again, other = (load_dataset(root, seed=seed) for seed in (0, 0, 1))
    assert first.card["counts"]["test"] == {"a": 4, "b": 2}
    assert first.card["counts"]["val"] == {"a": 3, "b": 2}
    assert first.card["split_rule"].startswith("test is 20% of all images")
    assert "val is 20% of the training images" in first.card["split_rule"]
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_given_validation_split_and_other_spellings(tmp_path: Path) -> None:
    counts = {"Training/a": 3, "Training/b": 3, "valid/a": 2, "valid/b": 1, "Testing/a": 1, "Testing/b": 1}
    data = load_dataset(build_folder(tmp_path / "d", counts))
    assert [len(split) for split in data.splits] == [6, 3, 2]
    assert [split.name for split in data.splits] == ["train", "val", "test"]


def test_the_fingerprint_depends_on_content_not_names(given: Path, tmp_path: Path) -> None:
    before = load_dataset(given)
    copy = shutil.copytree(given, tmp_path / "copy")
    assert load_dataset(copy).fingerprint == before.fingerprint
    write_picture(copy / "train" / "sick" / "0.png", 99)
    assert load_dataset(copy).fingerprint != before.fingerprint


def test_cards_ids_and_groups_contain_no_name(given: Path) -> None:
    write_picture(given / "train" / "sick" / "miller_anna.png", 77)
    (given / "manifest.csv").write_text("file,group\ntrain/sick/miller_anna.png,Miller\n")
    data = load_dataset(given)
    dumped = json.dumps([data.card, [[split.ids, split.groups] for split in data.splits]])
    assert "iller" not in dumped


def test_a_damaged_image_is_named_and_skipped(given: Path) -> None:
    (given / "train" / "sick" / "cut.png").write_bytes((given / "train" / "sick" / "0.png").read_bytes()[:80])
    (given / "test" / "sick" / "text.jpg").write_text("not an image")
    data = load_dataset(given)
    assert [name for name, _ in data.card["unreadable"]] == ["train/sick/cut.png", "test/sick/text.jpg"]
    assert sum(len(split) for split in data.splits) == 27
    assert len(data.card["unreadable_ids"]) == 2
    with pytest.raises(UnreadableImage, match=r"2 image files .* cannot be read.*Repair") as caught:
        load_dataset(given, on_unreadable="refuse")
    assert "cut" not in str(caught.value)  # what a run stores tells no file's name
    assert [note.split(":")[0] for note in notes_of(caught.value)] == ["train/sick/cut.png", "test/sick/text.jpg"]
    assert "truncated" in notes_of(caught.value)[0]


def test_a_class_without_a_readable_image_is_refused(given: Path) -> None:
    for path in (given / "test" / "sick").iterdir():
        path.write_text("not an image")
    with pytest.raises(EmptyDataset, match="'sick' of 'given' has no usable image in test"):
        load_dataset(given)


def test_a_dataset_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "x.png").write_text("not an image")
    with pytest.raises(EmptyDataset, match="None of the 2 image files") as caught:
        load_dataset(tmp_path / "d")
    assert len(notes_of(caught.value)) == 2


def test_one_class_only(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match=r"only the class 'sick'.*two classes"):
        load_dataset(build_folder(tmp_path / "d", {"sick": 4}))


def test_a_dataset_in_a_subfolder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match="'inner' looks like a dataset itself"):
        load_dataset(build_folder(tmp_path / "d", {"inner/a": 2, "inner/b": 2}))


def test_empty_folders_and_loose_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDataset, match=r"no images in 'empty'.*train/<class>"):
        load_dataset(tmp_path / "empty")
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "1.nii").write_text("x")
    with pytest.raises(EmptyDataset, match=r"found: 1 \.nii"):
        load_dataset(tmp_path / "scans")
    write_picture(tmp_path / "loose" / "1.png", 0)
    with pytest.raises(EmptyDataset, match="1 image files lie outside class folders"):
        load_dataset(tmp_path / "loose")


def test_a_file_is_not_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"'data\.zip' is a file.*Unpack"):
        load_dataset(tmp_path / "data.zip")


def test_classes_of_the_splits_must_agree(given: Path) -> None:
    shutil.move(given / "test" / "sick", given / "test" / "ill")
    with pytest.raises(ClassMismatch, match="test lacks 'sick' and train lacks 'ill'"):
        load_dataset(given)


def test_test_without_train(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a test folder but no train folder"):
        load_dataset(build_folder(tmp_path / "d", {"test/a": 2, "test/b": 2}))


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="both val and valid"):
        load_dataset(build_folder(tmp_path / "d", {"train/a": 2, "val/a": 1, "valid/a": 1}))


def test_a_class_with_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="class 'b' has 1 usable image"):
        load_dataset(build_folder(tmp_path / "d", {"a": 9, "b": 1}))


def test_groups_never_cross_train_and_val(tmp_path: Path) -> None:
    root = build_folder(tmp_path / "d", {"train/a": 24, "train/b": 24, "test/a": 2, "test/b": 2})
    rows = [f"train/{name}/{index}.png,patient{index // 4}" for name in "ab" for index in range(24)]
    (root / "manifest.csv").write_text("\n".join(["file,group", *rows]))
    for seed in range(5):
        data = load_dataset(root, seed=seed)
        assert not set(data.train.groups) & set(data.val.groups)
        assert len(set(data.train.groups) | set(data.val.groups)) == 6
        assert data.val.counts() == {"a": 4, "b": 4}
    assert "4 of the images have no group" in data.card["warnings"][0]


def test_a_group_in_train_and_test_is_leakage(given: Path) -> None:
    (given / "manifest.csv").write_text("file,group\ntrain/sick/1.png,p1\ntest/sick/2.png,p1\n")
    with pytest.raises(Leakage, match=r"The cases \w{12} and \w{12} are of the same group") as caught:
        load_dataset(given, leakage="refuse")
    assert "png" not in str(caught.value)  # a run stores the sentence; a file's name may be a patient's
    assert notes_of(caught.value) == ["train/sick/1.png and test/sick/2.png: of the same group"]


def test_an_image_in_train_and_test_is_leakage(given: Path) -> None:
    shutil.copy(given / "train" / "sick" / "1.png", given / "test" / "sick" / "other.png")
    with pytest.raises(Leakage, match=r"Two files of the case \w{12} are the same image, but belong to train and test"):
        load_dataset(given, leakage="refuse")


def test_copies_within_a_split_count_once(given: Path) -> None:
    shutil.copy(given / "train" / "sick" / "1.png", given / "train" / "sick" / "copy.png")
    shutil.copy(given / "train" / "sick" / "2.png", given / "train" / "healthy" / "wrong.png")
    data = load_dataset(given)
    assert len(data.train) + len(data.val) == 19
    assert [warning.split(" ")[0] for warning in data.card["warnings"][:2]] == ["1", "1"]


def test_a_manifest_without_the_columns_is_a_warning_and_a_broken_one_an_error(given: Path) -> None:
    (given / "manifest.csv").write_text("path,patient\nx,y\n")
    assert "no columns 'file' and 'group'" in load_dataset(given).card["warnings"][0]
    (given / "manifest.csv").write_bytes(b"file,group\n\xff\xfe,x\n")
    with pytest.raises(DatasetError, match=r"manifest\.csv of 'given' cannot be read"):
        load_dataset(given)


def test_masks_beside_images_are_masks(given: Path) -> None:
    for number, name in enumerate(("0_mask.png", "0_mask_1.png")):
        drawn = np.zeros((10, 12), np.uint8)
        drawn[number, 3] = (255, 1)[number]
        Image.fromarray(drawn).save(given / "test" / "sick" / name)
    data = load_dataset(given)
    assert len(data.test) == 7
    masks = [data.test.mask(row) for row in range(7)]
    present = [mask for mask in masks if mask is not None]
    assert len(present) == 1
    assert present[0].shape == (10, 12)
    assert np.argwhere(present[0]).tolist() == [[0, 3], [1, 3]]


def test_other_files_are_ignored(given: Path) -> None:
    (given / "README.txt").write_text("x")
    (given / "train" / "sick" / "Thumbs.db").write_text("x")
    (given / "train" / "sick" / "._0.png").write_text("x")
    (given / "__MACOSX").mkdir()
    data = load_dataset(given)
    assert data.card["unreadable"] == []
    assert sum(len(split) for split in data.splits) == 27


def test_checking_reports_progress_and_the_card_is_json(given: Path) -> None:
    seen = []
    data = load_dataset(given, progress=lambda *call: seen.append(call))
    assert ("Checking images", 27, 27) in seen
    stages = [stage for stage, _, _ in seen]
    searched = "Looking for images that look the same"
    assert list(dict.fromkeys(stages)) == ["Finding images", "Looking for changes", "Checking images", searched]
    assert stages.count("Finding images") > 27  # so that it can be stopped at each
    assert json.loads(json.dumps(data.card)) == data.card


@pytest.mark.parametrize("name", ["busi_ultrasound", "fundus_dr_eyepacs"])
def test_real_data_with_patients(name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"the real data set {name} is not here")
    data = load_dataset(SHARED / name)
    groups = [set(split.groups) for split in data.splits]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    total = len(data.train) + len(data.val)
    for label, count in data.val.counts().items():
        assert count == pytest.approx(0.2 * (count + data.train.counts()[label]), abs=2)
    assert total > 400

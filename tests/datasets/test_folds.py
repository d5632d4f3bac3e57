"""Folds test every image once, keep patients together, and depend on nothing but the images and the seed."""

from pathlib import Path

import pandas as pd
import pytest

from shpeft.datasets import load_dataset
from shpeft.datasets.folds import fold_count
from shpeft.errors import DatasetError
from tests.helpers.image_folders import build_folder, write_picture


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 images of two classes, 12 patients, three sites and a column of two folds; some rows are given as test."""
    rows = [
        {
            "path": write_picture(tmp_path / f"{n}.png", n).name,
            "label": ("benign", "malignant")[n % 2],
            "patient": n // 2,
            "site": "ABC"[n // 8],
            "fold": n // 2 % 2,
            "split": "test" if n >= 20 else "train",
        }
        for n in range(24)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_image_is_tested_once_and_patients_stay_together(table: Path, count: int) -> None:
    folds = [load_dataset(table, fold=f"{number}/{count}") for number in range(1, count + 1)]
    tested = [case for data in folds for case in data.test.ids]
    assert len(tested) == len(set(tested)) == 24
    for data in folds:
        groups = [set(split.groups) for split in data.splits]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert sum(map(len, data.splits)) == 24
        assert all(min(split.counts().values()) > 0 for split in data.splits)
        assert abs(len(data.test) - 24 / count) <= 2
        assert "given splits do not count" in data.card["split_rule"]


def test_folds_follow_from_images_and_seed_alone(table: Path, tmp_path: Path) -> None:
    expected = load_dataset(table, fold="1/3")
    rows = pd.read_csv(table).sample(frac=1, random_state=1).drop(columns="split")
    rows.to_csv(tmp_path / "shuffled.csv", index=False)
    again = load_dataset(tmp_path / "shuffled.csv", fold="1/3")
    assert [split.fingerprint for split in again.splits] == [split.fingerprint for split in expected.splits]
    other = load_dataset(table, fold="1/3", seed=1)
    assert set(other.test.ids) != set(expected.test.ids)
    assert load_dataset(table, fold="2/3").test.pixels(0) is not None


def test_a_site_or_a_column_is_left_out(table: Path) -> None:
    for column, count in (("site", 3), ("fold", 2)):
        assert fold_count(load_dataset(table), column) == count
        for number in range(1, count + 1):
            data = load_dataset(table, fold=f"{column}:{number}/{count}")
            own = data.test.subgroups if column == "site" else data.test.folds
            assert set(own) == {("ABC" if column == "site" else "01")[number - 1]}
            others = data.train.subgroups if column == "site" else data.train.folds
            assert not set(own) & set(others)


def test_images_of_a_tested_patient_at_another_site_are_left_out_of_training(table: Path) -> None:
    rows = pd.read_csv(table)
    rows.loc[8, "patient"] = 0  # an image of site B is of a patient of site A
    rows.to_csv(table, index=False)
    data = load_dataset(table, fold="site:1/3")
    assert len(data.test) == 8
    assert sum(map(len, data.splits)) == 23
    assert any("1 images of patients or groups that are tested" in warning for warning in data.card["warnings"])


def test_a_column_fold_with_words_is_that_of_the_split(tmp_path: Path) -> None:
    rows = [
        {
            "path": write_picture(tmp_path / f"{n}.png", n).name,
            "label": "ab"[n % 2],
            "fold": "train" if n < 8 else "test",
        }
        for n in range(12)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    data = load_dataset(tmp_path / "table.csv")
    assert len(data.test) == 4
    assert not data.train.folds


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        ("3/2", "There is no fold '3/2'"),
        ("1/1", "There is no fold '1/1'"),
        ("first", "There is no fold 'first'"),
        ("1/30", "12 patients or groups cannot be divided into 30 folds"),
        ("site:1/4", "The images are of 3 sites, not 4"),
    ],
)
def test_folds_that_cannot_be_are_refused(table: Path, fold: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        load_dataset(table, fold=fold)


def test_too_few_images_of_a_class_are_named(tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "images", {"common": 12, "rare": 4})
    with pytest.raises(
        DatasetError, match=r"'rare' has images of 4 patients or groups, too few for 5 folds.*at most 4"
    ):
        load_dataset(folder, fold="1/5")
    with pytest.raises(DatasetError, match="The dataset has no sites: a table needs a column"):
        load_dataset(folder, fold="site:1/2")


def test_a_class_of_one_site_cannot_be_left_out(table: Path) -> None:
    rows = pd.read_csv(table)
    rows["label"] = ["malignant" if site == "A" else "benign" for site in rows["site"]]
    rows.loc[rows["split"] == "test", "split"] = "train"
    rows.to_csv(table, index=False)
    with pytest.raises(DatasetError, match="All images of the class 'malignant' are in fold site:1/3"):
        load_dataset(table, fold="site:1/3")

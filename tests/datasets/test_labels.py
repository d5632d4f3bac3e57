"""Tables of findings: in one cell, in a column each, with uncertain and blank cells, as the field publishes them."""

import csv
from pathlib import Path

import pytest

from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import DatasetError, ShpeftError
from shpeft.tasks import MULTI_LABEL
from tests.helpers.image_folders import write_picture

CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "No Finding", "Edema", "Pneumonia"]


def write_table(path: Path, rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def chexpert(root: Path) -> Path:
    """Write a folder as CheXpert is unpacked: paths that begin with its name, 1.0, 0.0, -1.0 and blank cells."""
    cells = [("1.0", "", ""), ("", "1.0", ""), ("", "-1.0", "1.0"), ("", "0.0", "-1.0"), ("", "1.0", "1.0")]
    rows = [CHEXPERT]
    for number in range(40):
        name = f"CheXpert-small/train/patient{number // 2:05d}/study1/view{number % 2}.jpg"
        write_picture(root / name, number)
        rows.append([name, "Female", "60", "Frontal", *cells[number % 5]])
    return write_table(root / "CheXpert-small" / "train.csv", rows)


def load(path: Path, **settings: object) -> Dataset:
    return load_dataset(path, cache=False, val_fraction=0.3, test_fraction=0.3, **settings)  # type: ignore[arg-type]


def all_labels(data: Dataset) -> set[tuple[int, ...]]:
    return {label for split in data.splits for label in split.labels}


def test_chexpert_is_read_as_it_is(tmp_path: Path) -> None:
    data = load(chexpert(tmp_path))
    assert data.task == MULTI_LABEL
    assert data.classes == ("Edema", "Pneumonia")  # not the sex, the age, or that there is nothing
    assert all_labels(data) == {(0, 0), (1, 0), (-1, 1), (0, -1), (1, 1)}
    groups = [set(split.groups) for split in data.splits]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20  # patients, from the paths, stay together
    assert "16 uncertain findings (-1) of train.csv are left out of loss and metrics." in data.card["warnings"]
    assert "8 blank cells in the columns of findings of train.csv count as absent." in data.card["warnings"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"uncertain": "zeros"}, {(0, 0), (1, 0), (0, 1), (1, 1)}),
        ({"uncertain": "ones"}, {(0, 0), (1, 0), (1, 1), (0, 1)}),
        ({"blank": "ignore"}, {(0, 0), (1, -1), (-1, 1), (0, -1), (1, 1)}),  # "No Finding" says that all are absent
    ],
)
def test_uncertain_and_blank_cells_are_read_by_the_settings(
    settings: dict[str, str], expected: set[tuple[int, ...]], tmp_path: Path
) -> None:
    assert all_labels(load(chexpert(tmp_path), **settings)) == expected


def test_chest_xray14_is_read_as_it_is(tmp_path: Path) -> None:
    rows = [["Image Index", "Finding Labels", "Follow-up #", "Patient ID"]]
    labels = ["No Finding", "Mass", "Edema|Mass", "Edema"]
    for number in range(40):
        write_picture(tmp_path / f"images_00{1 + number % 2}" / "images" / f"{number}.png", number)
        rows.append([f"{number}.png", labels[number % 4], "0", str(number)])
    data = load(write_table(tmp_path / "Data_Entry_2017.csv", rows))
    assert data.classes == ("Edema", "Mass")
    assert all_labels(data) == {(0, 0), (0, 1), (1, 1), (1, 0)}
    assert sum(data.card["counts"][split]["Mass"] for split in ("train", "val", "test")) == 20
    for split in data.splits:  # drawn splits have each finding, and images without any
        assert all(split.counts().values())
        assert (0, 0) in split.labels


def test_columns_of_findings_can_be_named(tmp_path: Path) -> None:
    rows = [["path", "smoker", "mass", "edema"]]
    for number in range(24):
        write_picture(tmp_path / f"{number}.png", number)
        rows.append([f"{number}.png", "1", str(number % 2), str(number // 2 % 2)])
    data = load(write_table(tmp_path / "t.csv", rows), columns={"label": "mass|edema"})
    assert data.classes == ("mass", "edema")


def test_a_finding_that_every_image_has_is_refused(tmp_path: Path) -> None:
    rows = [["path", "label"]]
    for number in range(24):
        write_picture(tmp_path / f"{number}.png", number)
        rows.append([f"{number}.png", "mass|edema" if number % 2 else "mass"])
    table = write_table(tmp_path / "t.csv", rows)
    with pytest.raises(ShpeftError, match="no image is known to lack 'mass'"):
        load(table)


def test_a_task_that_the_labels_are_not_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"3 columns of findings, and the task is single-label"):
        load(chexpert(tmp_path), task="single-label", columns={})
    for number in range(6):
        write_picture(tmp_path / "folder" / ("a", "b")[number % 2] / f"{number}.png", number)
    with pytest.raises(DatasetError, match=r"a folder for each class.*Give a table"):
        load(tmp_path / "folder", task="multi-label")
    with pytest.raises(
        DatasetError, match=r"labels of 'phantom:fundus.*' are single-label, and the task is multi-label"
    ):
        load_dataset("phantom:fundus?n=36&size=64", task="multi-label")


def test_a_cell_that_is_no_finding_is_named(tmp_path: Path) -> None:
    table = chexpert(tmp_path)
    table.write_text(table.read_text().replace("Frontal,,-1.0", "Frontal,,maybe", 1))
    with pytest.raises(DatasetError, match=r"'maybe' in the column of the finding 'Edema'. Write 1"):
        load(table, columns={"label": "Edema|Pneumonia"})

"""Images listed in a table: formats, columns, splits, groups, and faulty tables."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.errors import ClassMismatch, DatasetError, EmptyDataset, Leakage


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Write 16 images of two classes and eight patients, and return a row for each."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    listed = []
    for number in range(16):
        name = f"images/{number:03d}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / name)
        listed.append({"path": name, "label": ("benign", "malignant")[number % 2], "patient_id": f"00{number // 4}"})
    for row, patient in zip(listed, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7], strict=True):
        row["patient_id"] = f"00{patient}"
    return listed


def write(folder: Path, rows: list[dict[str, Any]], kind: str = "csv") -> Path:
    path = folder / f"table.{kind}"
    if kind == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_table_gives_the_same(kind: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path, rows, kind))
    same = load_dataset(write(tmp_path, rows, "csv"))
    assert data.classes == ("benign", "malignant")
    assert data.fingerprint == same.fingerprint
    assert sum(len(split) for split in data.splits) == 16
    groups = [group for split in data.splits for group in set(split.groups)]
    assert len(groups) == len(set(groups)) == 8  # no patient stands on two sides
    assert "001" not in json.dumps(data.card)  # a patient's id stays where it is


def test_given_splits_and_named_columns(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for number, row in enumerate(rows):
        row["part"] = "Testing" if number >= 12 else "training"
        row["dx"], row["file"] = row.pop("label"), row.pop("path")
    columns = {"label": "dx", "split": "part"}
    data = load_dataset(write(tmp_path, rows), columns=columns)
    assert len(data.test) == 4
    assert data.card["split_rule"].startswith("test as given")
    with pytest.raises(DatasetError, match=r"no column 'diagnose' for the label; it has 'patient_id', 'part', 'dx'"):
        load_dataset(write(tmp_path, rows), columns={"label": "diagnose"})
    with pytest.raises(DatasetError, match="Did you mean label"):
        load_dataset(write(tmp_path, rows), columns={"lable": "dx"})


def test_a_patient_on_both_sides_of_a_given_split_is_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for number, row in enumerate(rows):
        row["split"] = "test" if number % 4 in (0, 3) else "train"
    with pytest.raises(Leakage, match="of the same group"):
        load_dataset(write(tmp_path, rows), leakage="refuse")


def test_missing_files_are_named_and_counted(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / rows[5]["path"]).unlink()
    data = load_dataset(write(tmp_path, rows))
    assert [name for name, _ in data.card["unreadable"]] == ["images/005.png"]
    assert sum(len(split) for split in data.splits) == 15


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda rows: [row | {"label": "one"} for row in rows], EmptyDataset, "only the class 'one'"),
        (lambda rows: [row | {"split": "tset"} for row in rows], DatasetError, "split 'tset'; known are train"),
        (lambda rows: [row | {"split": "test"} for row in rows], DatasetError, "no rows of the split train"),
        (lambda rows: [rows[0] | {"label": ""}, *rows[1:]], DatasetError, "without a path or a label"),
        (lambda rows: [{"path": row["path"]} for row in rows], DatasetError, "no column 'label' or 'class'"),
        (
            lambda rows: [row | {"split": "test" if n in (0, 2) else "train"} for n, row in enumerate(rows)],
            ClassMismatch,
            "test lacks 'malignant'",
        ),
    ],
)
def test_faulty_tables_are_explained(
    change: Any, error: type[Exception], said: str, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        load_dataset(write(tmp_path, change(rows)))


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match=r"table\.parquet cannot be read"):
        load_dataset(tmp_path / "table.parquet")


@pytest.mark.parametrize("home", ["", "data"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_imagefolder_layout(kind: str, home: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for split, part in (("train", rows[:12]), ("test", rows[12:])):
        folder = tmp_path / "set" / home / split
        (folder / "images").mkdir(parents=True)
        for row in part:
            (tmp_path / row["path"]).rename(folder / row["path"])
        renamed = [{"file_name": row["path"], "label": row["label"]} for row in part]
        write(folder, renamed, kind).rename(folder / f"metadata.{kind}")
    data = load_dataset(tmp_path / "set")
    assert (len(data.test), len(data.train) + len(data.val)) == (4, 12)


def images_in(rows: list[dict[str, Any]], tmp_path: Path, folders: list[str]) -> list[dict[str, Any]]:
    """Move the images into these folders in turn, and return the rows with the new paths."""
    for number, row in enumerate(rows):
        target = f"{folders[number % len(folders)]}/{number}.png"
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / row["path"]).rename(tmp_path / target)
        row["file_name"] = target
        del row["path"]
    (tmp_path / "images").rmdir()
    return rows


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_metadata_table_for_all_split_folders(kind: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = images_in(rows, tmp_path, ["train", "train", "train", "train", "validation", "eval", "train", "train"])
    for number, row in enumerate(rows):
        row["label"] = number // 8  # whole numbers, as many of these tables have
    path = write(tmp_path, [{key: row[key] for key in ("file_name", "label")} for row in rows], kind)
    path.rename(tmp_path / f"metadata.{kind}")
    data = load_dataset(tmp_path)
    assert data.classes == ("0", "1")
    assert [len(split) for split in data.splits] == [12, 2, 2]
    assert data.card["split_rule"] == "test as given by the folder; val as given by the folder."


def test_a_metadata_table_without_labels_leaves_them_to_the_folders(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = images_in(rows, tmp_path, ["train/sick", "train/well", "train/sick", "train/well", "test/sick", "test/well"])
    captions = [{"file_name": row["file_name"], "text": "a caption"} for row in rows]
    write(tmp_path, captions).rename(tmp_path / "metadata.csv")
    data = load_dataset(tmp_path)
    assert data.classes == ("sick", "well")
    assert data.test.counts() == {"sick": 2, "well": 2}


def test_a_metadata_table_without_labels_or_class_folders(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = images_in(rows, tmp_path, ["train", "test"])
    write(tmp_path, [{"file_name": row["file_name"]} for row in rows]).rename(tmp_path / "metadata.csv")
    with pytest.raises(DatasetError, match="no column 'label' or 'class'"):
        load_dataset(tmp_path)


def test_a_table_of_embedded_images_is_refused(tmp_path: Path) -> None:
    cells = [{"bytes": b"x", "path": "1.png"}, {"bytes": b"y", "path": "2.png"}]
    pd.DataFrame({"image": cells, "label": [0, 1]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DatasetError, match="holds the images themselves"):
        load_dataset(tmp_path / "train.parquet")


def test_an_unrelated_metadata_table_is_ignored(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
    for number, row in enumerate(rows):
        (tmp_path / row["path"]).rename(tmp_path / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "images").rmdir()
    (tmp_path / "metadata.csv").write_text("center,scanner\nx,y\n")
    assert load_dataset(tmp_path).classes == ("a", "b")

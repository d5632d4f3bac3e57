"""Cases in several given splits: checked against all pairs, and how a dataset handles them."""

import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shpeft.datasets import load_dataset
from shpeft.datasets.leakage import ORDER, crossings, left_out
from shpeft.errors import DatasetError, Leakage
from tests.helpers.command_line import shpeft

cases = st.lists(
    st.tuples(st.sampled_from(ORDER), st.integers(0, 8), st.one_of(st.none(), st.integers(0, 4))), max_size=24
)


@given(cases, st.data())
def test_crossings_equal_those_of_a_comparison_of_all_cases(
    drawn: list[tuple[str, int, int | None]], data: st.DataObject
) -> None:
    splits = [split for split, _, _ in drawn]
    ids = [f"id{number}" for _, number, _ in drawn]
    groups = [id if group is None else f"p{group}" for id, (_, _, group) in zip(ids, drawn, strict=True)]
    rows = st.integers(0, max(0, len(drawn) - 1))
    pairs = data.draw(st.lists(st.tuples(rows, rows).filter(lambda pair: pair[0] < pair[1]), max_size=6))
    leaked = crossings(splits, ids, groups, pairs)

    def kinds(a: int, b: int) -> set[str]:
        known = groups[a] != ids[a] and groups[b] != ids[b]
        alike = (a, b) in pairs and ids[a] != ids[b]
        relations = {"copy": ids[a] == ids[b], "group": known and groups[a] == groups[b], "look-alike": alike}
        return {kind for kind, true in relations.items() if true}

    expected, leaving = set(), set()
    for a, b in itertools.combinations(range(len(drawn)), 2):
        if splits[a] != splits[b]:
            early, late = sorted((a, b), key=lambda row: ORDER.index(splits[row]))
            expected |= {(kind, splits[early], splits[late]) for kind in kinds(a, b)}
            leaving |= {early} if kinds(a, b) else set()
    assert {(crossing.kind, *crossing.splits) for crossing in leaked} == expected
    assert left_out(leaked) == leaving
    staying = [row for row in range(len(drawn)) if row not in leaving]
    remaining = [pair for pair in pairs if not set(pair) & leaving]
    places = {row: position for position, row in enumerate(staying)}
    part_splits, part_ids, part_groups = ([values[row] for row in staying] for values in (splits, ids, groups))
    assert crossings(part_splits, part_ids, part_groups, [(places[a], places[b]) for a, b in remaining]) == []
    assert all(splits[row] != "test" for row in leaving)


def texture(path: Path, seed: int, quality: int | None = None) -> Path:
    """Write a smooth image, as a JPEG if a quality is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG") if quality is None else image.save(buffer, "JPEG", quality=quality)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """Return a dataset whose train has a copy, a look-alike and a patient of test, and whose val has a copy."""
    root = tmp_path / "set"
    for number in range(36):
        split = "test" if number < 6 else "val" if number < 12 else "train"
        texture(root / split / ("sick", "well")[number % 2] / f"{number}.png", number)
    shutil.copy(root / "test/sick/0.png", root / "train/sick/copy.png")
    shutil.copy(root / "test/well/1.png", root / "val/well/copy.png")
    texture(root / "train/sick/alike.jpg", 2, quality=60)
    rows = ["file,group", "test/well/3.png,anna", "train/well/13.png,anna", "train/well/15.png,anna"]
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def test_leakage_is_reported_with_its_pairs(leaky: Path) -> None:
    data = load_dataset(leaky)
    assert [len(split) for split in data.splits] == [26, 7, 6]
    report = data.card["leakage"]
    assert (report["handling"], report["left_out"]) == ("report", 0)
    assert sorted(pair[:3] for pair in report["pairs"]) == [
        ["copy", "train", "test"],
        ["copy", "val", "test"],
        ["group", "train", "test"],
        ["look-alike", "train", "test"],
    ]
    homes = {id: split.name for split in data.splits for id in split.ids}  # of a copy, the last split's
    assert all(homes[pair[4]] == "test" for pair in report["pairs"])
    warnings = " ".join(data.card["warnings"])
    assert "1 image stands in both train and test, as these splits were given: what is measured on test" in warnings
    assert "1 patient or group stands in both train and test" in warnings
    assert "anna" not in json.dumps(data.card)


def test_leakage_is_dropped_from_the_training_side_and_the_test_stays(leaky: Path) -> None:
    before, data = load_dataset(leaky), load_dataset(leaky, leakage="drop")
    assert data.test.fingerprint == before.test.fingerprint
    assert [len(split) for split in data.splits] == [22, 6, 6]
    assert data.card["leakage"]["left_out"] == 5
    assert len(data.card["leakage"]["pairs"]) == 4
    assert any(warning.startswith("5 images nearer to training left out") for warning in data.card["warnings"])
    assert not set(data.test.ids) & (set(data.train.ids) | set(data.val.ids))
    assert not set(data.test.groups) & set(data.train.groups)


def test_leakage_is_refused_with_advice(leaky: Path) -> None:
    with pytest.raises(Leakage, match=r"belong to train and test.*There are 4 such findings.*leakage to 'drop'"):
        load_dataset(leaky, leakage="refuse")
    for name in ("train/sick/copy.png", "val/well/copy.png", "train/sick/alike.jpg", "manifest.csv"):
        (leaky / name).unlink()
    data = load_dataset(leaky, leakage="refuse")
    assert data.card["leakage"] == {"handling": "refuse", "left_out": 0, "pairs": []}


def test_a_class_that_would_be_left_without_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(8):
        texture(root / "test" / ("sick", "well")[number % 2] / f"{number}.png", number)
        texture(root / "train" / ("sick", "well")[number % 2] / f"{number}.png", number + 4 * (number % 2) * 10)
    assert len(load_dataset(root).train)
    with pytest.raises(Leakage, match="Every image of the class 'sick' in train"):
        load_dataset(root, leakage="drop")


def test_drawn_splits_have_no_leakage(tmp_path: Path) -> None:
    for number in range(24):
        texture(tmp_path / "set" / ("sick", "well")[number % 2] / f"{number}.png", number)
        texture(tmp_path / "set" / ("sick", "well")[number % 2] / f"{number} again.jpg", number, quality=70)
    for seed in range(4):
        data = load_dataset(tmp_path / "set", seed=seed, leakage="refuse")
        homes = {id: split.name for split in data.splits for id in split.ids}
        assert len(data.card["near_duplicates"]) == 24
        assert all(homes[a] == homes[b] for a, b in data.card["near_duplicates"])


def test_a_look_alike_without_a_patient_joins_the_patient(tmp_path: Path) -> None:
    rows = ["file,group"]
    for number in range(20):
        name = f"{('sick', 'well')[number % 2]}/{number}.png"
        texture(tmp_path / "set" / name, number)
        rows.append(f"{name},patient{number // 2}")
    texture(tmp_path / "set/sick/again.jpg", 4, quality=70)
    (tmp_path / "set/manifest.csv").write_text("\n".join(rows))
    for seed in range(4):
        data = load_dataset(tmp_path / "set", seed=seed)
        [(a, b)] = data.card["near_duplicates"]
        group = {id: group for split in data.splits for id, group in zip(split.ids, split.groups, strict=True)}
        assert group[a] == group[b]
        assert sum(name == group[a] for name in group.values()) == 3  # the patient's two images and the look-alike


def test_the_setting_reaches_the_command_line(leaky: Path) -> None:
    assert "5 images nearer to training left out" in shpeft("datasets", str(leaky), "--leakage", "drop").stdout
    done = shpeft("datasets", str(leaky), "--leakage", "refuse", code=2)
    assert "would be too optimistic" in done.stderr
    assert "leakage: Input should be" in shpeft("datasets", str(leaky), "--leakage", "dorp", code=2).stderr
    with pytest.raises(DatasetError, match=r"leakage is 'dorp'\. Did you mean drop"):
        load_dataset(leaky, leakage="dorp")  # type: ignore[arg-type]

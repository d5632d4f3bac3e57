"""Recipes of public sets on generated folders with the expected layout and with other layouts."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from shpeft.config.schema import DatasetConfig, RunConfig
from shpeft.datasets import Dataset, known_sources, load_dataset, recipe_of
from shpeft.datasets.public_sets.catalog import ISIC_LESIONS, RECIPES
from shpeft.errors import DatasetError
from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft
from tests.helpers.public_set_trees import BUILD, GIVEN, IMAGES, Tree, busi, oct2017, one_hot

NAMES = tuple(recipe.name for recipe in RECIPES)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, build in BUILD.items():
        made[name] = tmp_path_factory.mktemp(name) / "unpacked"
        build(Tree(made[name]))
    return made


def test_every_recipe_has_a_tree() -> None:
    assert set(NAMES) == set(BUILD) == set(IMAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_read_as_it_is_unpacked(name: str, trees: dict[str, Path]) -> None:
    data = load_dataset(f"recipe:{name}={trees[name]}")
    recipe = recipe_of(f"recipe:{name}")
    assert recipe is not None
    assert (data.name, data.classes, data.card["modality"]) == (recipe.source, recipe.classes, recipe.modality)
    assert sum(len(split) for split in data.splits) == IMAGES[name]
    assert data.card["unreadable"] == []
    assert all(count for split in data.splits for count in split.counts().values())
    val, test = GIVEN.get(name, (None, None))
    assert val in (None, len(data.val))
    assert test in (None, len(data.test))
    sides = [set(split.groups) for split in data.splits]
    assert len(set.union(*sides)) == sum(len(side) for side in sides)
    assert recipe.license in data.card["notice"]
    assert recipe.page in data.card["notice"]
    assert all(any(problem in warning for warning in data.card["warnings"]) for problem in recipe.problems)
    assert data.test.image(0).size == (12, 10)


def labels_of(data: Dataset) -> dict[str, str]:
    """Return the class of each file."""
    labels: dict[str, str] = {}
    for split in data.splits:
        store, rows = cast(Any, split.source), range(len(split))
        labels |= {store.paths[row].name: split.classes[split.labels[row]] for row in rows}
    return labels


def test_the_labels_are_those_of_the_tables(trees: dict[str, Path]) -> None:
    aptos = labels_of(load_dataset(f"recipe:aptos2019={trees['aptos2019']}"))
    assert aptos["000000000004.png"] == "Proliferative DR"
    assert aptos["000000000005.png"] == "No DR"
    skin = labels_of(load_dataset(f"recipe:isic2019={trees['isic2019']}"))
    assert skin["ISIC_0000000_downsampled.jpg"] == "melanoma"
    assert skin["ISIC_0000007.jpg"] == "squamous cell carcinoma"
    colon = labels_of(load_dataset(f"recipe:chaoyang={trees['chaoyang']}"))
    assert colon["535940-IMG001x014-1.JPG"] == "serrated"
    lungs = labels_of(load_dataset(f"recipe:covidct={trees['covidct']}"))
    assert {lungs["500.jpg"], lungs["400.jpg"]} == {"NonCOVID"}


def groups(name: str, trees: dict[str, Path]) -> list[int]:
    """Return the sizes of the groups that have more than one image."""
    data = load_dataset(f"recipe:{name}={trees[name]}")
    members = [group for split in data.splits for group in split.groups]
    return sorted(count for group in set(members) if (count := members.count(group)) > 1)


def test_patients_and_lesions_come_from_names_and_tables(trees: dict[str, Path]) -> None:
    assert groups("isic2018", trees) == [2] * 28
    assert groups("isic2019", trees) == [2] * 8 + [3] * 16
    assert groups("covidct", trees) == [2] * 7
    assert groups("chaoyang", trees) == [4] * 15  # 535940 and 535940_4 are one case
    assert groups("breakhis", trees) == [2] * 8 + [4] * 2  # the slides AB and CD of a biopsy, at two magnifications
    assert groups("oct2017", trees) == [8] * 6  # a patient's scans under all four classes
    assert groups("busi", trees) == groups("brainmri", trees) == groups("aptos2019", trees) == []


def test_masks_of_busi_are_masks(trees: dict[str, Path]) -> None:
    data = load_dataset(f"recipe:busi={trees['busi']}")
    masks = [split.mask(row) for split in data.splits for row in range(len(split))]
    assert all(mask is not None and mask.shape == (10, 12) for mask in masks)


def test_the_inner_folder_is_accepted(trees: dict[str, Path]) -> None:
    outer = load_dataset(f"recipe:busi={trees['busi']}")
    inner = load_dataset(f"recipe:busi={trees['busi'] / 'Dataset_BUSI_with_GT'}")
    assert outer.fingerprint == inner.fingerprint


def test_the_training_part_of_isic_alone_is_enough(tmp_path: Path) -> None:
    codes = list(ISIC_LESIONS)
    truth = "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv"
    one_hot(Tree(tmp_path), truth, "ISIC2018_Task3_Training_Input", codes, 35, 1)
    data = load_dataset(f"recipe:isic2018={tmp_path}")
    assert data.card["split_rule"].startswith("test is 20%")
    assert any("LesionGroupings.csv is not there" in warning for warning in data.card["warnings"])


def test_a_patient_in_the_given_test_is_reported_and_can_be_left_out(tmp_path: Path) -> None:
    oct2017(Tree(tmp_path))
    (tmp_path / "OCT2017 " / "test" / "CNV" / "CNV-2000-1.jpeg").rename(
        tmp_path / "OCT2017 " / "test" / "CNV" / "CNV-1000-1.jpeg"
    )
    source = f"recipe:oct2017={tmp_path}"
    data = load_dataset(source)
    assert [pair[:3] for pair in data.card["leakage"]["pairs"]] == [["group", "train", "test"]]
    clean = load_dataset(source, leakage="drop")
    assert clean.test.fingerprint == data.test.fingerprint
    assert len(data.train) - len(clean.train) == clean.card["leakage"]["left_out"] == 8  # all of patient 1000


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("aptos2019", "train.csv", "'recipe:aptos2019' expects 'train.csv' in 'unpacked' or "),
        ("busi", "Dataset_BUSI_with_GT/normal", "expects 'normal' in 'unpacked' or 'unpacked/Dataset_BUSI_with_GT'"),
        ("covidct", "Data-split/NonCOVID/testCT_NonCOVID.txt", "expects 'Data-split/NonCOVID/testCT_NonCOVID.txt'"),
        ("chaoyang", "test.json", "expects 'test.json'"),
        ("oct2017", "OCT2017 /train/DME", "expects 'train/DME'"),
        ("isic2019", "ISIC_2019_Training_Input", "expects 'ISIC_2019_Training_Input'"),
    ],
)
def test_another_layout_is_refused_and_the_expected_one_is_named(
    name: str, gone: str, said: str, tmp_path: Path
) -> None:
    root = tmp_path / "unpacked"
    BUILD[name](Tree(root))
    (root / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError) as caught:
        load_dataset(f"recipe:{name}={root}")
    assert said in str(caught.value)
    assert "The expected layout: " in str(caught.value)
    recipe = recipe_of(f"recipe:{name}")
    assert recipe is not None
    assert recipe.page in str(caught.value)


@pytest.mark.parametrize(
    ("name", "table", "text", "said"),
    [
        ("aptos2019", "train.csv", "id,grade\nx,1\n", "train.csv has no column 'id_code' (found: id, grade)"),
        ("aptos2019", "train.csv", "id_code,diagnosis\nx,7\n", "train.csv cannot be understood: KeyError"),
        ("aptos2019", "train.csv", "", "no column 'id_code' (found: no rows)"),
        ("chaoyang", "train.json", "[{", "train.json cannot be understood"),
        ("chaoyang", "train.json", '[{"name": "train/x.JPG"}]', "train.json cannot be understood: KeyError"),
        (
            "isic2019",
            "ISIC_2019_Training_GroundTruth.csv",
            "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\nISIC_1,1.0,1.0,0,0,0,0,0,0,0\n",
            "2 classes are marked for ISIC_1",
        ),
        ("covidct", "Data-split/COVID/trainCT_COVID.txt", "", None),
    ],
)
def test_unreadable_tables_are_explained(name: str, table: str, text: str, said: str | None, tmp_path: Path) -> None:
    BUILD[name](Tree(tmp_path))
    (tmp_path / table).write_text(text)
    if said is None:  # a class without training images
        said = "The class 'COVID' of"
    with pytest.raises(DatasetError) as caught:
        load_dataset(f"recipe:{name}={tmp_path}")
    assert said in str(caught.value)


def test_an_unknown_class_folder_is_refused(tmp_path: Path) -> None:
    busi(Tree(tmp_path))
    Tree(tmp_path).image("Dataset_BUSI_with_GT/unsure/1.png")
    with pytest.raises(DatasetError, match="folder 'unsure' that is no class of this set"):
        load_dataset(f"recipe:busi={tmp_path}")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("recipe:bussi=/x", "There is no recipe 'bussi'. Did you mean busi?"),
        ("recipe:busi", "needs the folder of the unpacked download: recipe:busi=FOLDER"),
        ("recipe:busi=", "needs the folder of the unpacked download: recipe:busi=FOLDER"),
        ("recipe:busi=/no/such/place", "'/no/such/place' is not a folder"),
    ],
)
def test_unknown_recipes_and_folders_are_explained(source: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(source)
    assert said in str(caught.value)


def test_recipes_are_listed_and_explained() -> None:
    listed = {entry["source"]: entry for entry in known_sources() if entry["kind"] == "recipe"}
    assert set(listed) == {f"recipe:{name}" for name in NAMES}
    assert listed["recipe:busi"]["classes"] == ["benign", "malignant", "normal"]
    for recipe in RECIPES:
        explanation = recipe.explain()
        assert all(
            text in explanation
            for text in (
                recipe.page,
                recipe.license,
                recipe.license_source,
                recipe.cite,
                *recipe.tree,
                recipe.unverified,
            )
        )
        assert "http" in recipe.license_source  # where it can be looked up
        assert "could be confirmed" not in recipe.license or "Ask before use" in recipe.license
    assert recipe_of("phantom:fundus") is None
    out = shpeft("datasets").stdout
    assert "recipe:oct2017=FOLDER" in out
    assert "Known problem: " in shpeft("datasets", "recipe:oct2017").stdout
    facts = json.loads(shpeft("datasets", "recipe:busi", "--json").stdout)
    assert facts["page"].startswith("https://scholar.cu.edu.eg")
    assert "read" not in facts


def test_a_run_stores_the_absolute_path_of_the_set(
    trees: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trees["busi"].parent)
    config = RunConfig(dataset=DatasetConfig(source="recipe:busi=unpacked"))
    folder = RunFolder.create(tmp_path / "run", config)
    assert folder.config.dataset.source == f"recipe:busi={trees['busi']}"

"""Trees of the shape that public sets have when they are unpacked, with small images that all differ."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shpeft.datasets.public_sets.catalog import ISIC_2019_LESIONS, ISIC_LESIONS


class Tree:
    """Writes small images that all differ, and tables."""

    def __init__(self, root: Path) -> None:
        self.root, self.written = root, 0

    def image(self, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written += 1
        values = np.random.default_rng(self.written).integers(0, 255, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(values).save(path, "PNG")  # the suffix of the real set; the kind is read from the content

    def table(self, name: str, header: list[str], rows: Sequence[Sequence[object]]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    def text(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def aptos2019(tree: Tree) -> None:
    rows = [[f"{number:012x}", number % 5] for number in range(40)]
    for code, _ in rows:
        tree.image(f"train_images/{code}.png")
    tree.table("train.csv", ["id_code", "diagnosis"], rows)
    tree.table("test.csv", ["id_code"], [["00ff"]])
    tree.image("test_images/00ff.png")


def one_hot(tree: Tree, stem: str, folder: str, codes: list[str], count: int, first: int) -> list[str]:
    names = [f"ISIC_{first + number:07d}" for number in range(count)]
    rows = [
        [name, *(float(number % 7 == position) for position in range(len(codes)))] for number, name in enumerate(names)
    ]
    tree.table(stem, ["image", *codes], rows)
    for name in names:
        tree.image(f"{folder}/{name}.jpg")
    return names


def isic2018(tree: Tree) -> None:
    for name, count, first in (("Training", 56, 24306), ("Validation", 7, 34321), ("Test", 14, 34524)):
        stem = f"ISIC2018_Task3_{name}"
        truth = f"{stem}_GroundTruth/{stem}_GroundTruth.csv"
        images = one_hot(tree, truth, f"{stem}_Input", list(ISIC_LESIONS), count, first)
        tree.text(f"{stem}_Input/ATTRIBUTION.txt", "")
        if name == "Training":
            rows = [[image, f"HAM_{row % 28:07d}", "histopathology"] for row, image in enumerate(images)]
            tree.table(f"{stem}_LesionGroupings.csv", ["image", "lesion_id", "diagnosis_confirm_type"], rows)


def isic2019(tree: Tree) -> None:
    folder = "ISIC_2019_Training_Input/ISIC_2019_Training_Input"  # as some unpackers leave it
    codes = list(ISIC_2019_LESIONS)
    names = [f"ISIC_{number:07d}" + "_downsampled" * (number % 9 == 0) for number in range(72)]
    rows = [[name, *(float(number % 8 == position) for position in range(8)), 0.0] for number, name in enumerate(names)]
    tree.table("ISIC_2019_Training_GroundTruth.csv", ["image", *codes, "UNK"], rows)
    for name in names:
        tree.image(f"{folder}/{name}.jpg")
    meta = [[name, "55.0", "", f"BCN_{row % 24:07d}" if row < 64 else "", ""] for row, name in enumerate(names)]
    header = ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    tree.table("ISIC_2019_Training_Metadata.csv", header, meta)


def busi(tree: Tree) -> None:
    for name, count in (("benign", 9), ("malignant", 8), ("normal", 6)):
        for number in range(1, count + 1):
            stem = f"Dataset_BUSI_with_GT/{name}/{name} ({number})"
            tree.image(f"{stem}.png")
            tree.image(f"{stem}_mask.png")
    tree.image("Dataset_BUSI_with_GT/benign/benign (3)_mask_1.png")


def covidct(tree: Tree) -> None:
    for split, count in (("train", 8), ("val", 3), ("test", 4)):
        covid = [
            f"2020.0{len(split)}.{number // 2 + 10}.2002{number // 2}-p2-{number}%0.png" for number in range(count)
        ]
        other = [f"{len(split) * 100 + number}.jpg" for number in range(count)]
        for word, names in (("COVID", covid), ("NonCOVID", other)):
            tree.text(f"Data-split/{word}/{split}CT_{word}.txt", "\n".join(names) + "\n")
            for name in names:
                tree.image(f"Images-processed/CT_{word}/{name}")
    tree.image("Images-processed/CT_COVID/listed-nowhere.png")


def chaoyang(tree: Tree) -> None:
    for split, count, first in (("train", 48, 535940), ("test", 12, 600000)):
        entries = []
        for number in range(count):
            label = number % 4
            slide = f"{first + number // 4}" + "_4" * (number % 3 == 0)
            name = f"{split}/{slide}-IMG{number:03d}x014-{label}.JPG"
            tree.image(name)
            entries.append({"name": name, "label": label} | ({f"label_{who}": label for who in "ABC"}))
        tree.text(f"{split}.json", json.dumps(entries))


def breakhis(tree: Tree) -> None:
    home = "BreaKHis_v1/histology_slides/breast"
    for kind, letter, type_, short in (("benign", "B", "adenosis", "A"), ("malignant", "M", "ductal_carcinoma", "DC")):
        for number in range(5):
            for part in ("AB", "CD") if number == 0 else ("",):
                slide = f"14-{(22549 if letter == 'B' else 13412) + number}{part}"
                for zoom in (40, 400):
                    stem = f"SOB_{letter}_{short}-{slide}-{zoom}-001.png"
                    tree.image(f"{home}/{kind}/SOB/{type_}/SOB_{letter}_{short}_{slide}/{zoom}X/{stem}")
    tree.text(f"{home}/README.txt", "")


def oct2017(tree: Tree) -> None:
    for split, first, count in (("train", 1000, 8), ("test", 2000, 2), ("val", 3000, 2)):
        for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
            for number in range(count):
                tree.image(f"OCT2017 /{split}/{name}/{name}-{first + number // 2}-{number + 1}.jpeg")


def brainmri(tree: Tree) -> None:
    for split, short, count in (("Training", "Tr", 6), ("Testing", "Te", 3)):
        for name in ("glioma", "meningioma", "notumor", "pituitary"):
            for number in range(count):
                tree.image(f"{split}/{name}/{short}-{name[:2]}_{number:04d}.jpg")


BUILD = {function.__name__: function for function in (aptos2019, isic2018, isic2019, busi, covidct, chaoyang, breakhis)}
BUILD |= {"oct2017": oct2017, "brainmri": brainmri}

IMAGES = {"aptos2019": 40, "isic2018": 77, "isic2019": 72, "busi": 23, "covidct": 30, "chaoyang": 60, "breakhis": 24}
IMAGES |= {"oct2017": 48, "brainmri": 36}

GIVEN = {"isic2018": (7, 14), "covidct": (6, 8), "chaoyang": (None, 12), "oct2017": (8, 8), "brainmri": (None, 12)}
"""Validation and test images where the set has them; None where they are drawn."""

"""The detector on real images: photographs and X-rays in an ultrasound model, and held-out ultrasound."""

from pathlib import Path

import numpy as np
from PIL import Image

from shpeft.backbones import create_backbone
from shpeft.evaluation import fit_ood_detector
from shpeft.evaluation.ood_features import detector_blocks, image_features
from tests.conftest import shared


def images(folder: Path, count: int) -> list[Image.Image]:
    """Return evenly spaced images below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return [Image.open(files[at]).convert("RGB") for at in np.linspace(0, len(files) - 1, count).astype(int)]


def test_other_kinds_are_stopped_and_held_out_images_pass() -> None:
    ultrasound, photographs = shared("data", "busi_ultrasound"), shared("data", "natural_unlabelled", "cats_dogs")
    backbone = create_backbone(classes=("a", "b"), image_size=112)
    blocks = detector_blocks(backbone)
    train = images(ultrasound / "train", 100)
    detector = fit_ood_detector(
        image_features(backbone, train[::2], blocks), image_features(backbone, train[1::2], blocks), blocks=blocks
    )

    def alarms(folder: Path, count: int) -> int:
        distances = detector.distances(image_features(backbone, images(folder, count), blocks))
        return int(detector.alarms(distances).sum())

    assert alarms(photographs, 15) == 15
    assert alarms(shared("data", "covid_chest_xray", "test"), 15) == 15
    assert alarms(ultrasound / "test", 30) <= 4

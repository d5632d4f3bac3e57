"""Features of training images: stored with consent only, never exported, and the nearest ones of a case."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import DiagnosisError, RunError
from shpeft.pipeline import load_run, run, similar_images, unit_features
from shpeft.runs import RunFolder, export_run
from tests.helpers.app_pages import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run that stores features."""
    config = RunConfig.parse({**TINY, "store_features": True})
    folder = RunFolder.create(tmp_path_factory.mktemp("similar") / "first", config)
    run(config, folder)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: RunFolder) -> Dataset:
    return load_dataset(**folder.config.dataset.model_dump(), seed=folder.config.seed)


def test_features_hold_neither_pixels_nor_names(folder: RunFolder, dataset: Dataset) -> None:
    stored = folder.similar.read()
    assert stored is not None
    assert stored.features.dtype == np.float16
    assert stored.features.shape == (len(dataset.train), 64)
    np.testing.assert_allclose(np.linalg.norm(stored.features.astype(float), axis=1), 1, atol=1e-3)
    assert stored.labels.tolist() == list(dataset.train.labels)
    assert stored.rows.tolist() == list(range(len(dataset.train)))
    assert stored.dataset == dataset.fingerprint
    data = (folder.path / "similar.safetensors").read_bytes()
    assert not [case for case in dataset.train.ids if case.encode() in data]


def test_a_training_image_is_most_similar_to_itself_and_the_order_is_that_of_the_cosine(
    folder: RunFolder, dataset: Dataset
) -> None:
    with load_run(folder, "cpu") as loaded:
        rows = [unit_features(loaded.backbone, loaded.backbone.transform(dataset.train.image(i)))[0] for i in range(8)]
        everything = np.stack(
            [unit_features(loaded.backbone, loaded.backbone.transform(image))[0] for image in images(dataset)]
        )
    for row, features in enumerate(rows):
        nearest = similar_images(folder, features)
        assert nearest[0].row == row
        assert nearest[0].label == dataset.train.classes[dataset.train.labels[row]]
        assert nearest[0].similarity == pytest.approx(1, abs=1e-3)
        exact = everything @ features
        assert [image.similarity for image in nearest] == pytest.approx(sorted(exact, reverse=True)[:4], abs=2e-3)
    assert len(similar_images(folder, rows[0], n=1000)) == len(dataset.train)


def images(dataset: Dataset) -> list[Image.Image]:
    return [dataset.train.image(row) for row in range(len(dataset.train))]


def test_exports_leave_the_features_out(folder: RunFolder, tmp_path: Path) -> None:
    with zipfile.ZipFile(export_run(folder, tmp_path / "run.zip")) as archive:
        assert "similar.safetensors" not in archive.namelist()


def test_without_consent_nothing_is_stored(tmp_path: Path) -> None:
    config = RunConfig.parse(TINY)
    assert config.store_features is False
    folder = RunFolder.create(tmp_path / "plain", config)
    run(config, folder)
    assert not (folder.path / "similar.safetensors").exists()
    with pytest.raises(DiagnosisError, match=r"plain stores no features.*store_features: true"):
        similar_images(folder, np.zeros(64, np.float32))


def test_other_features_and_damaged_files_are_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(DiagnosisError, match=r"shape \(3,\); those of the run's training images have \(64,\)"):
        similar_images(folder, np.zeros(3, np.float32))
    other = RunFolder.create(tmp_path / "damaged", RunConfig.parse(TINY))
    (other.path / "similar.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"similar\.safetensors cannot be read"):
        other.similar.read()
    other.discard()

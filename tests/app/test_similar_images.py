"""The most similar training images on the Diagnose page."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset
from shpeft.errors import DatasetError
from shpeft.explanation.saliency import PassTime
from shpeft.pipeline import run
from shpeft.runs import RunFolder
from tests.helpers.app_pages import TINY, open_test_image, page_text, until_done


def test_similar_images_stand_with_their_labels_or_say_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assume_pass_time: Callable[[PassTime], None]
) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    config = RunConfig.parse({**TINY, "store_features": True})
    run(config, RunFolder.create(tmp_path / "consented", config))
    assume_pass_time(PassTime(1e-4, 1e-4))
    app = until_done(open_test_image("consented"))
    assert not app.error
    assert "Most similar training images" in [heading.value for heading in app.header]
    assert page_text(app).count("similarity") == 4

    def gone(config: RunConfig) -> Dataset:
        raise DatasetError("There is no such folder.")

    monkeypatch.setattr("app.views.diagnose.similar.dataset_card", SimpleNamespace(load_run_dataset=gone))
    assert "They cannot be shown: the dataset is no longer where it was" in page_text(app.run())


def test_a_run_without_consent_shows_none(with_run: str, assume_pass_time: Callable[[PassTime], None]) -> None:
    assume_pass_time(PassTime(1e-4, 1e-4))
    app = until_done(open_test_image(with_run))
    assert "Most similar training images" not in [heading.value for heading in app.header]

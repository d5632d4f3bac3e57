"""Small runs for the pipeline's tests."""

from pathlib import Path
from typing import Any

import pytest

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.runs import RunFolder

TINY: dict[str, Any] = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "dataset": {"source": "phantom:fundus?n=36&size=32"},
    "selection": {"budget": 40, "images": 16},
    "training": {"epochs": 2, "batch_size": 8},
    "device": "cpu",
}


def tiny(**sections: Any) -> RunConfig:
    return RunConfig.parse(
        {
            **TINY,
            **{
                name: {**TINY.get(name, {}), **value} if isinstance(value, dict) else value
                for name, value in sections.items()
            },
        }
    )


def carry_out(path: Path, config: RunConfig | None = None, **options: Any) -> RunFolder:
    folder = RunFolder.create(path, config or tiny())
    pipeline.run(folder.config, folder, **options)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = carry_out(tmp_path_factory.mktemp("runs") / "finished")
    return RunFolder.open(folder.path)


def names(folder: RunFolder) -> set[str]:
    return {entry.name for entry in folder.path.iterdir()}

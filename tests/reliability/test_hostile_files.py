"""Each hostile file is refused in a sentence or read right, within ten seconds of processor time and a gibibyte."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import hostile_files as hostile
from tests.reliability.figures import record
from tests.reliability.processes import FULL, Outcome, ran

SECONDS, MEBIBYTES = 10.0, 1024
SHARE = 1 if FULL else 25
"""Every so many-th file is tried."""

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "example"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured and limited as Linux does")


# -- how each kind is read, in a child


def read_configuration(path: Path) -> None:
    """Read a configuration, as a run's and as a plan of a comparison."""
    from shpeft.compare import Plan
    from shpeft.config import RunConfig
    from shpeft.errors import ShpeftError

    with suppress(ShpeftError):
        Plan.from_yaml(path)
    RunConfig.from_yaml(path)


def read_run(path: Path) -> None:
    """List runs of which one has the file in place of its own, and open it as the app does."""
    from shpeft.runs import RunFolder, damaged_runs, list_runs
    from shpeft.runs.model_card import run_card

    folder = path.parent / "runs" / "one"
    shutil.copytree(EXAMPLE, folder)
    shutil.copy(path, folder / path.name)
    assert len(list_runs(folder.parent)) + len(damaged_runs(folder.parent)) == 1
    run = RunFolder.open(folder)
    run.metrics.read(), run.reliability.read(), run.history.read(), run.state.read()
    run_card(run)


def read_delta(path: Path) -> None:
    """Load a delta, weights of a backbone, and the support and scores of a run."""
    from shpeft.backbones import create_backbone
    from shpeft.delta.file import load_delta
    from shpeft.errors import ShpeftError

    backbone = create_backbone("test_vit", classes=("a", "b"), weights="random", image_size=32)
    for load in (
        lambda: load_delta(path, backbone),
        lambda: create_backbone("test_vit", classes=("a", "b"), weights=str(path), image_size=32),
    ):
        with suppress(ShpeftError):
            load()
    folder = path.parent / "run"
    shutil.copytree(EXAMPLE, folder)
    shutil.copy(path, folder / "support.safetensors")
    from shpeft.runs import RunFolder

    RunFolder.open(folder).scores.support()


def read_dataset(path: Path) -> None:
    """Load a dataset and look at its first images."""
    from shpeft.datasets import load_dataset

    data = load_dataset(str(path))
    for split in data.splits:
        if len(split):
            split.image(0)


def read_image(path: Path) -> None:
    """Read an image as the library and the viewer do, and as an upload."""
    from shpeft.images import open_image, open_pixels

    open_image(path).thumbnail((224, 224))
    open_pixels(path.read_bytes())


def read_archive(path: Path) -> None:
    """Import an exported run."""
    from shpeft.runs import import_run

    import_run(path, path.parent / "runs")


def read_zip(path: Path) -> None:
    """Read every image of a zip, and store it as an upload."""
    from shpeft.batch import open_source
    from shpeft.errors import ShpeftError
    from shpeft.runs.uploads import save_upload

    with suppress(ShpeftError), path.open("rb") as file:
        save_upload([(path.name, file)], path.parent / "runs")
    with open_source([path]) as source:
        for entry in source.entries[:50]:
            entry.read()


def read_thing(path: Path) -> None:
    """Meet it as an image, a configuration, an import, in a folder and in a list."""
    from shpeft.batch import open_source
    from shpeft.config import RunConfig
    from shpeft.datasets import load_dataset
    from shpeft.errors import ShpeftError
    from shpeft.images import open_image
    from shpeft.runs import import_run

    for read in (
        lambda: RunConfig.from_yaml(path),
        lambda: import_run(path, path.parent / "runs"),
        lambda: load_dataset(str(path)),
        lambda: load_dataset(str(path.parent)),
    ):
        with suppress(ShpeftError):
            read()
    with open_source([path.parent]) as source:
        for entry in source.entries:
            with suppress(ShpeftError):
                entry.read()
    open_image(path)


Kind = tuple[Callable[[], Iterator[tuple[str, hostile.Make]]], Callable[[Path], None]]

KINDS: dict[str, Kind] = {
    "configurations": (hostile.configurations, read_configuration),
    "state of a run": (lambda: hostile.run_documents("state.json"), read_run),
    "metrics of a run": (lambda: hostile.run_documents("metrics.json"), read_run),
    "trust of a run": (lambda: hostile.run_documents("trust.json"), read_run),
    "safetensors": (lambda: hostile.tensor_files("d.safetensors"), read_delta),
    "npz": (hostile.arrays, read_dataset),
    "tables": (hostile.tables, read_dataset),
    "PNG, GIF, BMP, PPM": (hostile.rasters, read_image),
    "JPEG, TIFF, WebP, JPEG 2000": (hostile.photographs, read_image),
    "DICOM": (hostile.scans, read_image),
    "exported runs": (lambda: hostile.archives("delta.safetensors"), read_archive),
    "zips of images": (lambda: hostile.archives("a.png"), read_zip),
    "no files": (hostile.things, read_thing),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_refused_or_read_within_bounds(kind: str, tmp_path: Path) -> None:
    make_all, read = KINDS[kind]
    outcomes: dict[str, Outcome] = {}
    for number, (name, make) in enumerate(make_all()):
        if number % SHARE:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        path = make(folder)
        outcomes[name] = ran(read, path, report=tmp_path / "report", seconds=SECONDS, mebibytes=MEBIBYTES)
        shutil.rmtree(folder, ignore_errors=True)
    record("hostile files", kind=kind, **_figures(outcomes.values()))
    faults = {
        name: f"{outcome.kind} after {outcome.seconds:.1f} s with {outcome.mebibytes:.0f} MiB: {outcome.message[:200]}"
        for name, outcome in outcomes.items()
        if outcome.kind not in ("refused", "done") or outcome.seconds > SECONDS or outcome.mebibytes > MEBIBYTES
    }
    assert not faults, faults


def _figures(outcomes: Any) -> dict[str, Any]:
    outcomes = list(outcomes)
    return {
        "files": len(outcomes),
        "refused": sum(outcome.kind == "refused" for outcome in outcomes),
        "read": sum(outcome.kind == "done" for outcome in outcomes),
        "other": sum(outcome.kind not in ("refused", "done") for outcome in outcomes),
        "seconds": round(max((outcome.seconds for outcome in outcomes), default=0), 2),
        "MiB": round(max((outcome.mebibytes for outcome in outcomes), default=0)),
    }

"""Valid files with damaged bytes: every reader reads them or refuses them in a sentence; anything else is a fault."""

import io
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shpeft.backbones import Backbone, create_backbone
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset
from shpeft.delta.file import load_delta, read_header
from shpeft.errors import ShpeftError
from shpeft.images import open_image, open_pixels
from shpeft.runs import RunFolder, import_run
from shpeft.runs.archive import export_bytes
from tests.helpers.command_line import TINY
from tests.helpers.dicom_files import dicom_of
from tests.reliability.figures import record
from tests.reliability.processes import FULL

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "example"
EXAMPLES = 600 if FULL else 8
"""Damaged files for each kind."""

Read = Callable[[Path], object]


@cache
def backbone() -> Backbone:
    """Return a model to load deltas for."""
    return create_backbone("test_vit", classes=("a", "b"), weights="random", image_size=32)


def _image(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out, rng = io.BytesIO(), np.random.default_rng(0)
    values = rng.integers(0, 255, (24, 24, 3) if mode == "RGB" else (24, 24)).astype(
        "uint16" if mode == "I;16" else "uint8"
    )
    Image.fromarray(values).save(out, kind, **options)
    return out.getvalue()


def _dicom() -> bytes:
    out = io.BytesIO()
    dicom_of(np.arange(256, dtype=np.uint16).reshape(16, 16), WindowCenter=100, WindowWidth=50).save_as(
        out, enforce_file_format=True
    )
    return out.getvalue()


def _delta(path: Path) -> None:
    read_header(path)
    load_delta(path, backbone())


def _archive(path: Path) -> None:
    with tempfile.TemporaryDirectory() as root:
        try:
            import_run(path, root)
        except ShpeftError:
            assert os.listdir(root) == []  # a refusal leaves nothing
            raise


def _pixels(path: Path) -> None:
    open_image(path)
    open_pixels(path.read_bytes())


SEEDS: dict[str, tuple[str, Callable[[], bytes], Read]] = {
    "delta": ("d.safetensors", lambda: (EXAMPLE / "delta.safetensors").read_bytes(), _delta),
    "archive": ("a.zip", lambda: export_bytes(RunFolder.open(EXAMPLE)), _archive),
    "configuration": ("c.yaml", lambda: TINY.encode(), RunConfig.from_yaml),
    "table": (
        "t.csv",
        lambda: b'path,label,split\n"a.png",x,train\nb.png,y,test\n' * 4,
        lambda path: load_dataset(str(path)),
    ),
    "PNG": ("i.png", lambda: _image("PNG"), _pixels),
    "JPEG": ("i.jpg", lambda: _image("JPEG"), _pixels),
    "TIFF of 16 bits": ("i.tif", lambda: _image("TIFF", "I;16"), _pixels),
    "DICOM": ("s.dcm", _dicom, _pixels),
}


@st.composite
def damage(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return the bytes with one to four damages, more often near the beginning, where headers are."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), 300 if near else len(data)) - 1)))
        match draw(st.sampled_from(["set", "insert", "cut", "repeat", "number", "drop"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "number":
                size = draw(st.sampled_from([1, 2, 4, 8]))
                data[at : at + size] = draw(st.sampled_from([b"\xff", b"\x00", b"\x7f", b"\x80"])) * size
            case "drop":
                del data[at : at + draw(st.integers(1, 16))]
    return bytes(data)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    name, seed, read = SEEDS[kind]
    counts = {"read": 0, "refused": 0}

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damage(seed()))
    def attack(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        try:
            read(tmp_path / name)
            counts["read"] += 1
        except ShpeftError:
            counts["refused"] += 1

    attack()
    record("damaged bytes", kind=kind, files=sum(counts.values()), **counts)

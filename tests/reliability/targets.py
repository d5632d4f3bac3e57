"""The readers of files from others, each with a valid file to damage; what attacks them is in the tests beside."""

import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
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

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "example"


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


@dataclass(frozen=True)
class Target:
    """A reader, and a valid file to damage.

    Attributes:
        name: of the file.
        seed: makes its bytes.
        read: reads it; a ShpeftError refuses it.
    """

    name: str
    seed: Callable[[], bytes]
    read: Callable[[Path], object]

    def is_read(self, data: bytes, folder: Path) -> bool:
        """Return whether these bytes are read; False if they are refused. Anything else is a fault and is raised."""
        path = folder / self.name
        path.write_bytes(data)
        try:
            self.read(path)
        except ShpeftError:
            return False
        return True


TARGETS = {
    "delta": Target("d.safetensors", lambda: (EXAMPLE / "delta.safetensors").read_bytes(), _delta),
    "archive": Target("a.zip", lambda: export_bytes(RunFolder.open(EXAMPLE)), _archive),
    "configuration": Target("c.yaml", lambda: TINY.encode(), RunConfig.from_yaml),
    "table": Target(
        "t.csv",
        lambda: b'path,label,split\n"a.png",x,train\nb.png,y,test\n' * 4,
        lambda path: load_dataset(str(path)),
    ),
    "PNG": Target("i.png", lambda: _image("PNG"), _pixels),
    "JPEG": Target("i.jpg", lambda: _image("JPEG"), _pixels),
    "TIFF of 16 bits": Target("i.tif", lambda: _image("TIFF", "I;16"), _pixels),
    "DICOM": Target("s.dcm", _dicom, _pixels),
}

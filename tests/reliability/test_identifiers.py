"""Marks planted in DICOM tags, EXIF, file names and columns: no file that shpeft writes holds one."""

import gzip
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.command_line import TINY
from tests.reliability.figures import record
from tests.reliability.processes import FULL, command

MARK = "ZQXMARK"
"""In every planted text, followed by where it was planted."""

TEXTS = {"AE", "AS", "CS", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
"""Kinds of DICOM values that hold text; dates, times and UIDs get numbers."""

IMAGES = 24


def _is_pixel_tag(keyword: str) -> bool:
    shape = (
        "Rows",
        "Columns",
        "Bits",
        "High",
        "Pixel",
        "Samples",
        "Photometric",
        "Planar",
        "Number",
        "Window",
        "Rescale",
    )
    return keyword.startswith(
        (*shape, "Modality", "BodyPart", "VOI", "Palette", "Lossy", "Presentation", "SmallestImage")
    )


def scan_with_marks(values: np.ndarray) -> bytes:
    """Return a DICOM file with a mark in every text attribute of the standard, private ones and a sequence."""
    from pydicom.datadict import DicomDictionary
    from pydicom.dataset import Dataset

    from tests.helpers.dicom_files import dicom_of

    data = dicom_of(values)
    for tag, (kind, count, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            kind not in TEXTS
            or retired
            or not keyword
            or group < 8
            or group in (0x0028, 0x7FE0)
            or _is_pixel_tag(keyword)
        ):
            continue
        if kind in ("DS", "IS", "AS"):
            continue
        mark = f"{MARK}{tag:08X}"[: 16 if kind in ("AE", "SH", "CS") else 60]
        data.add_new(tag, kind, mark if count != "2" else [mark, mark])
    block = data.private_block(0x0099, f"{MARK} PRIVATE", create=True)
    block.add_new(1, "LO", f"{MARK}-private")
    inner = Dataset()
    inner.PatientName = f"{MARK}^inner"
    data.OtherPatientIDsSequence = [inner]
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def photo_with_marks(path: Path, pixels: np.ndarray) -> None:
    """Write an image with a mark in every text field of EXIF, a comment and the file's name."""
    exif = Image.Exif()
    for tag in (0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x013C, 0x8298, 0x9C9B, 0x9C9D, 0xA420, 0xA430):
        exif[tag] = f"{MARK}-{tag:04X}"
    Image.fromarray(pixels).save(path, exif=exif, comment=f"{MARK}-comment".encode())


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of both kinds and a table, whose names, columns and tags hold marks."""
    root = tmp_path_factory.mktemp("clinic")
    lines, rng = [f"path,label,patient_id,site,{MARK}-column,comment"], np.random.default_rng(0)
    for index in range(IMAGES):
        pixels = rng.integers(0, 120, (32, 32)).astype(np.uint8)
        pixels[8:24, 4:12] += np.uint8(100 * (index % 2))
        name = f"{MARK}_Mueller_{index}" + (".dcm" if index % 4 < 2 else ".jpg")
        if name.endswith("dcm"):
            (root / name).write_bytes(scan_with_marks(pixels.astype(np.uint16)))
        else:
            photo_with_marks(root / name, pixels)
        lines.append(f"{name},{('well', 'ill')[index % 2]},{MARK}-PID-{index},{'ab'[index // 12]},{MARK},{MARK}-note")
    (root / "images.csv").write_text("\n".join(lines))
    return root


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of a file, and of everything packed in it."""
    data = path.read_bytes()
    yield path.name, data
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                yield f"{path.name}/{member}", archive.read(member)
    elif data[:2] == b"\x1f\x8b":
        yield path.name, gzip.decompress(data)


def spellings(mark: str) -> tuple[bytes, ...]:
    """Return a text in the encodings that files use."""
    return tuple(mark.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be"))


@pytest.mark.skipif(not FULL, reason="make reliability runs it")
def test_no_written_file_holds_a_planted_mark(clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, temporary = tmp_path / "work", tmp_path / "tmp"
    for folder in (root, root / "out", temporary):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    raw = yaml.safe_load(TINY) | {"dataset": {"source": str(clinic / "images.csv")}, "store_features": True}
    (root / "config.yaml").write_text(yaml.safe_dump(raw))
    run, scans = root / "runs" / "one", sorted(clinic.glob("*.dcm"))
    commands = [
        ["finetune", "--config", str(root / "config.yaml"), "--out", str(run)],
        ["datasets", str(clinic / "images.csv")],
        ["evaluate", str(run)],
        ["diagnose", str(run), str(clinic), "--csv", str(root / "out" / "list.csv")],
        ["diagnose", str(run), str(scans[0]), "--report", str(root / "out" / "report.html"), "--saliency", "legrad"],
        ["diagnose", str(run), str(scans[0]), str(scans[1]), "--out", str(root / "out" / "cases"), "--json"],
        ["runs", "export", str(run), "--out", str(root / "out" / "export.zip")],
        ["runs", "import", str(root / "out" / "export.zip"), "--name", "two"],
        ["diagnose", str(run), str(clinic / "images.csv")],  # an error
    ]
    for number, arguments in enumerate(commands):
        child = command(arguments, root / f"log{number}.txt", root)
        child.join()
        assert (child.exitcode == 0) is (number < len(commands) - 1), (root / f"log{number}.txt").read_text()[-1000:]
    files = [Path(at) / name for folder in (root, temporary) for at, _, names in os.walk(folder) for name in names]
    marks = spellings(MARK) + spellings("Mueller")
    held = [where for path in files for where, data in contents(path) if any(mark in data for mark in marks)]
    planted = sum(path.read_bytes().count(MARK.encode()) for path in clinic.iterdir())
    record("identifiers", planted=planted, commands=len(commands), files=len(files), holding=len(held))
    assert planted > 1_000
    assert held == []
    assert not list(root.glob("*.outside"))  # nothing was looked up or connected to

"""A finished run as one file, and back: a zip archive whose manifest says what is in it, to the byte.

Nothing is exported that says where something is on this computer, nor the notes, which may say anything. What is
imported is checked before it is a run: names, sizes and digests against the manifest, then every file by its reader.
"""

import hashlib
import io
import json
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

from shpeft import __version__
from shpeft.errors import RunError
from shpeft.files import write_atomic
from shpeft.runs.card import model_card
from shpeft.runs.folder import OWN_FILES, RunFolder
from shpeft.runs.formats import DAMAGE
from shpeft.runs.listing import checked_name, free_name, runs_root
from shpeft.runs.state import ENDING

FORMAT = "shpeft.run/1"
MANIFEST = "manifest.json"
MEMBERS = tuple(name for name in OWN_FILES if name not in ("notes.md", "error.log", ENDING))
"""What may be in an export, besides the manifest."""

LARGEST = 2**30
"""Bytes that an import may come to when it is unpacked."""

CHUNK = 2**20


def export_run(folder: RunFolder, path: Path) -> Path:
    """Write a finished run as one file; the same run gives the same bytes.

    Raises:
        RunError: the run is not finished.
        ShpeftError: the file cannot be written.
    """
    return write_atomic(path, export_bytes(folder))


def export_bytes(folder: RunFolder) -> bytes:
    """The file that ``export_run`` writes."""
    state = folder.state
    if state.status != "finished":
        raise RunError(f"The run {folder.name} is {state.status}, and only finished runs can be exported.")
    members = {name: (folder.path / name).read_bytes() for name in MEMBERS if (folder.path / name).exists()}
    members["config.yaml"] = folder.config.portable().to_yaml().encode()
    kept = {key: getattr(state, key) for key in ("status", "message", "started", "updated")}
    members["state.json"] = json.dumps(kept, indent=1).encode()
    manifest = {
        "format": FORMAT,
        "name": folder.name,
        "shpeft": __version__,
        "files": {name: {"bytes": len(data), "sha256": _digest(data)} for name, data in members.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {MANIFEST: json.dumps(manifest, indent=1).encode(), **members}.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def import_run(file: Path | bytes, root: str | Path | None = None, name: str = "") -> RunFolder:
    """Check an exported run and put it under ``root``; under a new name where its own is taken.

    The model card is written anew from the numbers: text of somebody else's is not taken over.

    Args:
        name: what the run is called here; by default as it was.

    Raises:
        RunError: the file is no export, is damaged, or holds something else; nothing is kept of it.
    """
    root = Path(root or runs_root())
    root.mkdir(parents=True, exist_ok=True)
    anteroom = root / f".import-{secrets.token_hex(4)}"
    try:
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            manifest = _manifest(archive)
            name = free_name(checked_name(name or manifest["name"]), root)
            place = anteroom / name
            place.mkdir(parents=True)
            for member, told in manifest["files"].items():
                _unpack(archive, member, told, place)
        _check(RunFolder.open(place))
        place.rename(root / name)
    except OSError as error:
        raise _refusal(error.strerror or str(error)) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise _refusal(f"it is no undamaged zip archive ({error})") from None
    finally:
        shutil.rmtree(anteroom, ignore_errors=True)
    return RunFolder.open(root / name)


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What is in the archive, once its members are exactly what the manifest lists and a run may hold."""
    names = [member.filename for member in archive.infolist()]
    unknown = sorted(set(names) - {MANIFEST, *MEMBERS})
    if unknown:
        raise _refusal(f"it holds {unknown[0][:80]!r}, which is no file of a run")
    if len(set(names)) != len(names):
        raise _refusal("it holds a file twice")
    if MANIFEST not in names:
        raise _refusal(f"it has no {MANIFEST}")
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    if sum(sizes.values()) > LARGEST:
        raise _refusal(f"it unpacks to more than {LARGEST // 2**20:,} MiB")
    try:
        found = json.loads(_read(archive, MANIFEST, CHUNK))
        stated = {name: int(told["bytes"]) for name, told in found["files"].items()}
        digests = [str(told["sha256"]) for told in found["files"].values()]
        wrong = found["format"] != FORMAT or not isinstance(found["name"], str) or not all(digests)
    except (*DAMAGE, RecursionError):
        raise _refusal(f"its {MANIFEST} cannot be read") from None
    if wrong:
        raise _refusal(f"it is not of the format {FORMAT}; shpeft {__version__} reads no other")
    if stated != {name: size for name, size in sizes.items() if name != MANIFEST}:
        raise _refusal(f"its files are not those that {MANIFEST} lists")
    return dict(found)


def _unpack(archive: zipfile.ZipFile, member: str, told: dict[str, Any], place: Path) -> None:
    data = _read(archive, member, int(told["bytes"]))
    if _digest(data) != told["sha256"]:
        raise _refusal(f"{member} is not what {MANIFEST} says: it was damaged or changed")
    (place / member).write_bytes(data)


def _read(archive: zipfile.ZipFile, member: str, most: int) -> bytes:
    """A member of at most so many bytes, whatever its header says."""
    with archive.open(member) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _refusal(f"{member} is larger than it says")
    return data


def _check(folder: RunFolder) -> None:
    """Read everything as the app does, and write the card.

    Raises:
        RunError: a file is missing or damaged, the files do not fit each other, or the run is not finished.
    """
    from shpeft.deltafile import read_header

    state, metrics, trust = folder.state, folder.metrics(), folder.trust()
    models = [folder.predictions(), folder.predictions("probe"), folder.validation(), trust]
    folder.support(), folder.weight_infos(), folder.summaries(), folder.history(), folder.novelty()
    folder.rankings(), folder.heads()
    if state.status != "finished" or metrics is None:
        raise _refusal("the run in it is not finished")
    try:
        header = read_header(folder.delta_path)
        card = model_card(folder.config, metrics, header, trust)
    except DAMAGE as error:
        raise _refusal(f"its delta or its metrics cannot be used ({type(error).__name__})") from None
    if any(model is not None and model.classes != tuple(header["classes"]) for model in models):
        raise _refusal("its files are of models with different classes")
    if folder.config.portable() != folder.config:
        raise _refusal("its configuration names places on a computer")
    if "![" in card + folder.config.to_yaml() + state.message:
        raise _refusal("its texts would load pictures from elsewhere")
    folder.write_card(card)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refusal(reason: str) -> RunError:
    return RunError(f"The file cannot be imported: {reason}. Export the run again with 'shpeft runs export'.")

"""Export a finished run as one zip file with a manifest of sizes and digests, and import it.

An export holds neither paths of this computer, nor the user's notes, nor features of training images. An import checks
names, sizes and digests against the manifest, and then reads every file, before it becomes a run.
"""

import hashlib
import io
import json
import secrets
import shutil
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from shpeft import __version__
from shpeft.errors import RunError
from shpeft.runs.folder import FILES, RunFolder
from shpeft.runs.listing import LOCK, STAGING, checked_name, free_name, remove_killed_imports, runs_root
from shpeft.runs.model_card import model_card
from shpeft.runs.owner import OWNER
from shpeft.runs.run_file import DAMAGE
from shpeft.runs.similar import NAME as SIMILAR
from shpeft.runs.state import END_REQUEST
from shpeft.support.atomic_files import FileLock, write_atomic
from shpeft.support.bounded_files import open_regular_file, parse_json
from shpeft.support.limits import RUN_FILE_BYTES

FORMAT = "shpeft.run/1"
MANIFEST = "manifest.json"
MEMBERS = tuple(name for name in FILES if name not in ("notes.md", OWNER, "error.log", SIMILAR, END_REQUEST))
"""Files that an export may hold besides the manifest."""

CHUNK = 2**20


def export_run(folder: RunFolder, path: Path) -> Path:
    """Write a finished run to one zip file; the same run gives the same bytes.

    Raises:
        RunError: the run is not finished.
        ShpeftError: the file cannot be written.
    """
    return write_atomic(path, export_bytes(folder))


def export_bytes(folder: RunFolder) -> bytes:
    """Return the content of the file that ``export_run`` writes.

    Raises:
        RunError: the run is not finished.
    """
    state = folder.state.read()
    if state.status != "finished":
        raise RunError(f"The run {folder.name} is {state.status}, and only finished runs can be exported.")
    members = {name: (folder.path / name).read_bytes() for name in MEMBERS if (folder.path / name).exists()}
    members["config.yaml"] = folder.config.portable().to_yaml().encode()
    exported_state = {key: getattr(state, key) for key in ("status", "message", "started", "updated")}
    members["state.json"] = json.dumps(exported_state, indent=1).encode()
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
    """Check an exported run and move it under ``root``, with a number after its name if that is taken.

    The model card is written from the numbers; the exported text is not used.

    Args:
        file: the exported file, or its content.
        root: the folder of runs, ``runs_root()`` by default.
        name: a new name for the run.

    Raises:
        RunError: the file is not an export, is damaged, or holds something else; nothing is written then.
    """
    root = Path(root or runs_root())
    root.mkdir(parents=True, exist_ok=True)
    remove_killed_imports(root)
    staging = root / f"{STAGING}{secrets.token_hex(4)}"
    lock = FileLock(staging / LOCK)
    try:
        while not lock.held:
            staging.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # taken for one that a killed import left behind
                lock.acquire()
        with _opened(file) as data, zipfile.ZipFile(data) as archive:
            manifest = _manifest(archive)
            name = free_name(checked_name(name or manifest["name"]), root)
            path = staging / name
            path.mkdir()
            for member, entry in manifest["files"].items():
                _unpack(archive, member, entry, path)
        _check(RunFolder.open(path))
        path.rename(root / name)
    except OSError as error:
        raise _refusal(error.strerror or str(error)) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise _refusal(f"it is not a zip archive, or a damaged one ({error})") from None
    finally:
        lock.release()
        shutil.rmtree(staging, ignore_errors=True)
    return RunFolder.open(root / name)


def _opened(file: Path | bytes) -> BinaryIO:
    """Open an exported file, unless it is a pipe or a device, which would have no end."""
    if isinstance(file, bytes):
        return io.BytesIO(file)
    try:
        return open_regular_file(file)
    except ValueError as error:
        raise _refusal(str(error)) from None


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest, after checking that the archive holds the files that it lists, and nothing else."""
    names = [member.filename for member in archive.infolist()]
    unknown = sorted(set(names) - {MANIFEST, *MEMBERS})
    if unknown:
        raise _refusal(f"it holds {unknown[0][:80]!r}, which is not a file of a run")
    if len(set(names)) != len(names):
        raise _refusal("it holds a file twice")
    if MANIFEST not in names:
        raise _refusal(f"it has no {MANIFEST}")
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    if sum(sizes.values()) > RUN_FILE_BYTES:
        raise _refusal(f"it unpacks to more than {RUN_FILE_BYTES // 2**20:,} MiB")
    try:
        manifest = parse_json(_read(archive, MANIFEST, CHUNK))
        stated = {name: int(entry["bytes"]) for name, entry in manifest["files"].items()}
        digests = [str(entry["sha256"]) for entry in manifest["files"].values()]
        wrong = manifest["format"] != FORMAT or not isinstance(manifest["name"], str) or not all(digests)
    except DAMAGE:
        raise _refusal(f"its {MANIFEST} cannot be read") from None
    if wrong:
        raise _refusal(f"it is not of the format {FORMAT}; shpeft {__version__} reads no other")
    if stated != {name: size for name, size in sizes.items() if name != MANIFEST}:
        raise _refusal(f"its files are not those that {MANIFEST} lists")
    return dict(manifest)


def _unpack(archive: zipfile.ZipFile, member: str, entry: dict[str, Any], folder: Path) -> None:
    data = _read(archive, member, int(entry["bytes"]))
    if _digest(data) != entry["sha256"]:
        raise _refusal(f"{member} differs from {MANIFEST}: it was damaged or changed")
    (folder / member).write_bytes(data)


def _read(archive: zipfile.ZipFile, member: str, most: int) -> bytes:
    """Read a member of at most ``most`` bytes, whatever its header says."""
    with archive.open(member) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _refusal(f"{member} is larger than it says")
    return data


def _check(folder: RunFolder) -> None:
    """Read every file of an imported run, and write its model card.

    Raises:
        RunError: a file is missing or damaged, the files do not fit each other, or the run is not finished.
    """
    from shpeft.delta.file import read_header

    state, metrics, reliability = folder.state.read(), folder.metrics.read(), folder.reliability.read()
    models = [folder.predictions.test(), folder.predictions.test("probe"), folder.predictions.validation(), reliability]
    scores = folder.scores
    scores.support(), scores.weight_infos(), scores.summaries(), scores.rankings(), scores.heads()
    folder.history.read(), folder.reliability.detector()
    if state.status != "finished" or metrics is None:
        raise _refusal("the run in it is not finished")
    try:
        header = read_header(folder.delta_path)
        card = model_card(folder.config, metrics, header, reliability)
    except DAMAGE as error:
        raise _refusal(f"its delta or its metrics cannot be used ({type(error).__name__})") from None
    if any(model is not None and model.classes != tuple(header["classes"]) for model in models):
        raise _refusal("its files are of models with different classes")
    if folder.config.portable() != folder.config:
        raise _refusal("its configuration contains absolute paths")
    if "![" in card + folder.config.to_yaml() + state.message:
        raise _refusal("its texts would load pictures from elsewhere")
    folder.write_card(card)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _refusal(reason: str) -> RunError:
    return RunError(f"The file cannot be imported: {reason}. Export the run again with 'shpeft runs export'.")

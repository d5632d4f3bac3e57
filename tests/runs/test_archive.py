"""Runs are renamed, annotated, deleted, restored, exported and imported."""

import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from shpeft import pipeline
from shpeft.backbones import create_backbone
from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.runs import (
    RunFolder,
    delete_run,
    deleted_runs,
    empty_trash,
    export_bytes,
    find_run,
    import_run,
    list_runs,
    rename_run,
    restore_run,
)
from shpeft.runs.archive import MANIFEST, _digest
from shpeft.support.jsonable import to_jsonable
from tests.helpers.command_line import shpeft
from tests.helpers.image_folders import build_folder
from tests.helpers.run_metrics import metrics_of

CONFIG = RunConfig()
Change = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def exported(tiny_run: Path) -> bytes:
    folder = RunFolder.open(tiny_run)
    folder.notes.write("Scans of Mrs Doe, to be asked again.")
    return export_bytes(folder)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def sealed(files: dict[str, bytes]) -> bytes:
    """An archive whose manifest agrees with its files."""
    manifest = json.loads(files.pop(MANIFEST))
    manifest["files"] = {name: {"bytes": len(data), "sha256": _digest(data)} for name, data in files.items()}
    return zipped({MANIFEST: json.dumps(manifest).encode(), **files})


# -- export and import


def test_an_imported_run_equals_the_exported_one_and_has_a_free_name(
    tiny_run: Path, exported: bytes, tmp_path: Path
) -> None:
    original, root = RunFolder.open(tiny_run), tmp_path / "elsewhere"
    first, second = import_run(exported, root), import_run(exported, root)
    assert (first.name, second.name, import_run(exported, root, name="mine").name) == ("busi", "busi_2", "mine")
    assert metrics_of(first) == original.metrics.read()
    assert first.reliability.read() == original.reliability.read()
    assert (first.path / "README.md").read_text() == (original.path / "README.md").read_text()
    _, again = pipeline.evaluate_run(first, device="cpu")
    assert to_jsonable(again["finetuned"]) == metrics_of(original)["finetuned"]
    assert export_bytes(original) == exported
    assert first.notes.read() == ""
    assert {path.name for path in root.iterdir()} == {"busi", "busi_2", "mine"}


def test_an_export_contains_no_local_path_and_no_patient_name(tmp_path: Path) -> None:
    ward = tmp_path / "ward 3"
    for picture in sorted(build_folder(ward / "scans", {"a": 12, "b": 12}).rglob("*.png")):
        picture.rename(picture.with_stem(f"Doe{picture.stem}"))
    classes = ("a", "b")
    module = create_backbone("test_vit", classes=classes, weights="random", image_size=32, seed=3).module
    save_file(module.state_dict(), ward / "base.safetensors")
    config = RunConfig.parse(
        {
            "backbone": {"name": "test_vit", "weights": str(ward / "base.safetensors"), "image_size": 32},
            "dataset": {"source": str(ward / "scans")},
            "selection": {"budget": 20},
            "training": {"epochs": 1},
        }
    )
    folder = RunFolder.create(tmp_path / "run", config)
    pipeline.run(folder.config, folder)
    folder.notes.write("Mrs Roe")
    for name, data in members(export_bytes(folder)).items():
        for word in (str(tmp_path), "ward 3", "Roe", "Doe"):
            assert word.encode() not in data, (name, word)
    imported = import_run(export_bytes(folder), tmp_path / "elsewhere")
    assert imported.config.dataset.source == "scans"
    assert imported.config.backbone.weights == "base.safetensors"


def _without(name: str) -> Change:
    def change(files: dict[str, bytes]) -> None:
        del files[name]

    return change


def _with(name: str, data: bytes) -> Change:
    def change(files: dict[str, bytes]) -> None:
        files[name] = data

    return change


@pytest.mark.parametrize(
    ("change", "seal", "said"),
    [
        (_with("../evil.txt", b"x"), True, "not a file of a run"),
        (_with("/etc/evil", b"x"), True, "not a file of a run"),
        (_with("notes.md", b"x"), True, "not a file of a run"),
        (_without(MANIFEST), False, "has no manifest"),
        (_with(MANIFEST, b"{"), False, "manifest.json cannot be read"),
        (_with(MANIFEST, b'{"format": "shpeft.run/9", "name": "a", "files": {}}'), False, "not of the format"),
        (_without("metrics.json"), False, "not those that manifest.json lists"),
        (_with("metrics.jsonl", b"longer " * 99), False, "not those that manifest.json lists"),
        (lambda files: files.update({"README.md": files["README.md"].swapcase()}), False, "damaged or changed"),
        (_without("metrics.json"), True, "not finished"),
        (_without("predictions.csv"), True, "has no predictions.csv"),
        (_with("metrics.json", b"{}"), True, "metrics.json cannot be read"),
        (_with("delta.safetensors", b"no delta"), True, "delta or its metrics"),
        (_with("importance.npz", b"\x80\x04]."), True, "importance.npz cannot be read"),
        (_with("config.yaml", b"sead: 1"), True, "no such setting"),
        (_with("config.yaml", b"dataset: {source: /home/me/scans}"), True, "absolute paths"),
        (_with("config.yaml", b'dataset: {source: "phantom:![](http://evil)"}'), True, "pictures from elsewhere"),
        (_with("state.json", b'{"status": "running"}'), True, "not finished"),
        (
            lambda files: files.update({"predictions.csv": files["predictions.csv"].replace(b"healthy", b"other")}),
            True,
            "different classes",
        ),
    ],
)
def test_an_invalid_archive_is_refused_and_leaves_no_file(
    exported: bytes, tmp_path: Path, change: Change, seal: bool, said: str
) -> None:
    files = members(exported)
    change(files)
    with pytest.raises(RunError, match=said):
        import_run(sealed(files) if seal else zipped(files), tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
def test_a_pipe_and_a_device_are_no_archives(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RunError, match="not a regular file"):
            import_run(path, tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nonsense", b"cut", b"flipped"])
def test_a_damaged_archive_is_refused(exported: bytes, tmp_path: Path, data: bytes) -> None:
    if data == b"cut":
        data = exported[:-200]
    elif data == b"flipped":
        with zipfile.ZipFile(io.BytesIO(exported)) as archive:
            at = archive.getinfo("importance.npz").header_offset + 500
        data = exported[:at] + bytes([exported[at] ^ 255]) + exported[at + 1 :]
    with pytest.raises(RunError, match="cannot be imported"):
        import_run(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_unpacks_to_too_many_bytes_is_refused(
    exported: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = members(exported)
    manifest = json.loads(files[MANIFEST])
    manifest["files"]["README.md"]["bytes"] = 10
    lying = bytearray(zipped({**files, MANIFEST: json.dumps(manifest).encode(), "README.md": b"x" * 4000}))
    entry = lying.rindex(b"README.md") - 46  # the central directory's entry; its uncompressed size stands at 24
    lying[entry + 20 : entry + 28] = (10).to_bytes(4, "little") * 2
    with pytest.raises(RunError, match="cannot be imported"):
        import_run(bytes(lying), tmp_path)
    monkeypatch.setattr("shpeft.runs.archive.RUN_FILE_BYTES", 1000)
    with pytest.raises(RunError, match="unpacks to more than"):
        import_run(exported, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_finished_runs_are_exported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is queued, and only finished runs"):
        export_bytes(RunFolder.create(tmp_path / "run", CONFIG))


# -- names, notes, trash


@pytest.fixture
def two(tmp_path: Path) -> list[RunFolder]:
    folders = []
    for name in ("one", "two"):
        folders.append(RunFolder.create(tmp_path / name, CONFIG))
        folders[-1].state.unlock()
    return folders


def test_a_run_is_renamed(two: list[RunFolder], tmp_path: Path) -> None:
    first, _ = two
    first.notes.write("  first try\n")
    renamed = rename_run(first, "first")
    assert (renamed.name, renamed.notes.read()) == ("first", "first try\n")
    assert rename_run(renamed, "first").name == "first"
    for name, said in (("two", "already"), ("../x", "cannot be a run's name"), ("", "cannot be a run's name")):
        with pytest.raises(RunError, match=said):
            rename_run(renamed, name)
    renamed.state.lock()
    with pytest.raises(RunError, match="being worked on"):
        rename_run(RunFolder.open(renamed.path), "other")
    assert {run.name for run in list_runs(tmp_path)} == {"first", "two"}
    renamed.notes.write(" ")
    assert renamed.notes.read() == ""


def test_deleting_is_undone_until_the_trash_is_emptied(two: list[RunFolder], tmp_path: Path) -> None:
    first, other = two
    (first.path / "mine.txt").write_text("kept with it")
    deleted = delete_run(first)
    assert [run.name for run in list_runs(tmp_path)] == ["two"]
    assert deleted_runs(tmp_path) == [deleted]
    RunFolder.create(tmp_path / "one", CONFIG)
    back = restore_run(deleted)
    assert back.name == "one_2"
    assert (back.path / "mine.txt").read_text() == "kept with it"
    with pytest.raises(RunError, match="no longer in the trash"):
        restore_run(deleted)
    other.state.lock()
    with pytest.raises(RunError, match="being worked on"):
        delete_run(RunFolder.open(other.path))
    delete_run(back)
    assert empty_trash(tmp_path) == 1
    assert deleted_runs(tmp_path) == []


def test_a_run_deleted_a_month_ago_leaves_the_trash(
    two: list[RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_run(two[0])
    now = time.time()
    monkeypatch.setattr("shpeft.runs.trash.time.time", lambda: now + 31 * 24 * 3600)
    assert deleted_runs(tmp_path) == []
    assert not list((tmp_path / ".trash").iterdir())


def test_the_command_line_manages_runs(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "wrote" not in shpeft("runs", "export", tiny_run, "--out", tmp_path / "x.zip").output
    shpeft("runs", "import", tmp_path / "x.zip")
    shpeft("runs", "rename", "busi", "first")
    assert shpeft("runs", "list").stdout.splitlines()[1].split()[:3] == [
        "first",
        "finished",
        "phantom:fundus?n=36&size=32",
    ]
    assert "shpeft runs restore first" in shpeft("runs", "delete", "first").stdout
    assert shpeft("runs", "trash").stdout.split()[-1] == "first"
    shpeft("runs", "restore", "first")
    assert find_run("first").state.status == "finished"
    assert "settings are the same" in shpeft("runs", "diff", "first", tiny_run).stdout
    assert "no run gone in the trash" in shpeft("runs", "restore", "gone", code=2).stderr
    shpeft("runs", "delete", "first")
    assert "1 runs" in shpeft("runs", "trash", "--empty").stdout
    (tmp_path / "x.zip").write_bytes(b"no archive")
    assert "cannot be imported" in shpeft("runs", "import", tmp_path / "x.zip", code=2).stderr

"""Runs are renamed, annotated, deleted and brought back, and carried in one file that is checked."""

import io
import json
import time
import zipfile

import pytest
from safetensors.torch import save_file

from shpeft import pipeline
from shpeft.backbones import create_backbone
from shpeft.config import RunConfig
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
from shpeft.runs.formats import plain

from .commands import shpeft
from .test_datasets_folder import build

CONFIG = RunConfig()


@pytest.fixture(scope="module")
def exported(tiny_run) -> bytes:
    folder = RunFolder.open(tiny_run)
    folder.write_notes("Scans of Mrs Doe, to be asked again.")
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


# -- one file


def test_an_exported_run_comes_back_and_its_name_is_kept_where_it_is_free(tiny_run, exported, tmp_path):
    original, root = RunFolder.open(tiny_run), tmp_path / "elsewhere"
    first, second = import_run(exported, root), import_run(exported, root)
    assert (first.name, second.name, import_run(exported, root, name="mine").name) == ("busi", "busi_2", "mine")
    assert first.metrics() == original.metrics()
    assert first.trust() == original.trust()
    assert (first.path / "README.md").read_text() == (original.path / "README.md").read_text()
    _, again = pipeline.evaluate_run(first, device="cpu")
    assert plain(again["finetuned"]) == original.metrics()["finetuned"]
    assert export_bytes(original) == exported
    assert first.notes == ""
    assert {path.name for path in root.iterdir()} == {"busi", "busi_2", "mine"}


def test_an_export_says_nothing_of_places_and_people(tmp_path):
    place = tmp_path / "ward 3"
    for picture in sorted(build(place / "scans", {"a": 12, "b": 12}).rglob("*.png")):
        picture.rename(picture.with_stem(f"Doe{picture.stem}"))
    classes = ("a", "b")
    module = create_backbone("test_vit", classes=classes, weights="random", image_size=32, seed=3).module
    save_file(module.state_dict(), place / "base.safetensors")
    config = RunConfig.parse(
        {
            "backbone": {"name": "test_vit", "weights": str(place / "base.safetensors"), "image_size": 32},
            "dataset": {"source": str(place / "scans")},
            "selection": {"budget": 20},
            "training": {"epochs": 1},
        }
    )
    folder = RunFolder.create(tmp_path / "run", config)
    pipeline.run(folder.config, folder)
    folder.write_notes("Mrs Roe")
    for name, data in members(export_bytes(folder)).items():
        for word in (str(tmp_path), "ward 3", "Roe", "Doe"):
            assert word.encode() not in data, (name, word)
    imported = import_run(export_bytes(folder), tmp_path / "elsewhere")
    assert imported.config.dataset.source == "scans"
    assert imported.config.backbone.weights == "base.safetensors"


def _without(name):
    def change(files):
        del files[name]

    return change


def _with(name, data):
    def change(files):
        files[name] = data

    return change


@pytest.mark.parametrize(
    ("change", "seal", "said"),
    [
        (_with("../evil.txt", b"x"), True, "no file of a run"),
        (_with("/etc/evil", b"x"), True, "no file of a run"),
        (_with("notes.md", b"x"), True, "no file of a run"),
        (_without(MANIFEST), False, "has no manifest"),
        (_with(MANIFEST, b"{"), False, "manifest.json cannot be read"),
        (_with(MANIFEST, b'{"format": "shpeft.run/9", "name": "a", "files": {}}'), False, "not of the format"),
        (_without("metrics.json"), False, "not those that manifest.json lists"),
        (_with("metrics.jsonl", b"longer " * 99), False, "not those that manifest.json lists"),
        (lambda files: files.update({"README.md": files["README.md"].swapcase()}), False, "damaged or changed"),
        (_without("metrics.json"), True, "not finished"),
        (_without("predictions.csv"), True, "has no predictions.csv"),
        (_with("metrics.json", b"{}"), True, "metrics cannot be used"),
        (_with("delta.safetensors", b"no delta"), True, "delta or its metrics"),
        (_with("importance.npz", b"\x80\x04]."), True, "importance.npz cannot be read"),
        (_with("config.yaml", b"sead: 1"), True, "no such setting"),
        (_with("config.yaml", b"dataset: {source: /home/me/scans}"), True, "names places"),
        (_with("config.yaml", b'dataset: {source: "phantom:![](http://evil)"}'), True, "pictures from elsewhere"),
        (_with("state.json", b'{"status": "running"}'), True, "not finished"),
        (
            lambda files: files.update({"predictions.csv": files["predictions.csv"].replace(b"healthy", b"other")}),
            True,
            "different classes",
        ),
    ],
)
def test_what_is_not_an_undamaged_export_is_a_sentence_and_leaves_nothing(exported, tmp_path, change, seal, said):
    files = members(exported)
    change(files)
    with pytest.raises(RunError, match=said):
        import_run(sealed(files) if seal else zipped(files), tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nonsense", "cut", "flipped"])
def test_a_damaged_archive_is_a_sentence(exported, tmp_path, data):
    if data == "cut":
        data = exported[:-200]
    elif data == "flipped":
        with zipfile.ZipFile(io.BytesIO(exported)) as archive:
            at = archive.getinfo("importance.npz").header_offset + 500
        data = exported[:at] + bytes([exported[at] ^ 255]) + exported[at + 1 :]
    with pytest.raises(RunError, match="cannot be imported"):
        import_run(data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_or_lies_about_it_is_refused(exported, tmp_path, monkeypatch):
    files = members(exported)
    manifest = json.loads(files[MANIFEST])
    manifest["files"]["README.md"]["bytes"] = 10
    lying = bytearray(zipped({**files, MANIFEST: json.dumps(manifest).encode(), "README.md": b"x" * 4000}))
    entry = lying.rindex(b"README.md") - 46  # the central directory's entry; its uncompressed size stands at 24
    lying[entry + 20 : entry + 28] = (10).to_bytes(4, "little") * 2
    with pytest.raises(RunError, match="cannot be imported"):
        import_run(bytes(lying), tmp_path)
    monkeypatch.setattr("shpeft.runs.archive.LARGEST", 1000)
    with pytest.raises(RunError, match="unpacks to more than"):
        import_run(exported, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_finished_runs_are_exported(tmp_path):
    with pytest.raises(RunError, match="is queued, and only finished runs"):
        export_bytes(RunFolder.create(tmp_path / "run", CONFIG))


# -- names, notes, trash


@pytest.fixture
def two(tmp_path) -> list[RunFolder]:
    found = []
    for name in ("one", "two"):
        found.append(RunFolder.create(tmp_path / name, CONFIG))
        found[-1].release()
    return found


def test_a_run_is_renamed(two, tmp_path):
    one, _ = two
    one.write_notes("  first try\n")
    renamed = rename_run(one, "first")
    assert (renamed.name, renamed.notes) == ("first", "first try\n")
    assert rename_run(renamed, "first").name == "first"
    for name, said in (("two", "already"), ("../x", "cannot be a run's name"), ("", "cannot be a run's name")):
        with pytest.raises(RunError, match=said):
            rename_run(renamed, name)
    renamed.hold()
    with pytest.raises(RunError, match="being worked on"):
        rename_run(RunFolder.open(renamed.path), "other")
    assert {run.name for run in list_runs(tmp_path)} == {"first", "two"}
    renamed.write_notes(" ")
    assert renamed.notes == ""


def test_deleting_is_undone_until_the_trash_is_emptied(two, tmp_path):
    one, other = two
    (one.path / "mine.txt").write_text("kept with it")
    deleted = delete_run(one)
    assert [run.name for run in list_runs(tmp_path)] == ["two"]
    assert deleted_runs(tmp_path) == [deleted]
    RunFolder.create(tmp_path / "one", CONFIG)
    back = restore_run(deleted)
    assert back.name == "one_2"
    assert (back.path / "mine.txt").read_text() == "kept with it"
    with pytest.raises(RunError, match="no longer in the trash"):
        restore_run(deleted)
    other.hold()
    with pytest.raises(RunError, match="being worked on"):
        delete_run(RunFolder.open(other.path))
    delete_run(back)
    assert empty_trash(tmp_path) == 1
    assert deleted_runs(tmp_path) == []


def test_what_was_deleted_a_month_ago_is_gone(two, tmp_path, monkeypatch):
    delete_run(two[0])
    now = time.time()
    monkeypatch.setattr("shpeft.runs.trash.time.time", lambda: now + 31 * 24 * 3600)
    assert deleted_runs(tmp_path) == []
    assert not list((tmp_path / ".trash").iterdir())


def test_the_command_line_looks_after_runs(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "wrote" not in shpeft("runs", "export", tiny_run, "--out", tmp_path / "x.zip").output
    shpeft("runs", "import", tmp_path / "x.zip")
    shpeft("runs", "rename", "busi", "first")
    assert shpeft("runs", "list").stdout.splitlines()[1].split()[:3] == [
        "first",
        "finished",
        "phantom:fundus?n=48&size=32",
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

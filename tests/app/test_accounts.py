"""The app with accounts: what is recorded, and what another account may not do. Without them, nothing changes."""

import ast
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shpeft.batch import list_batches, worker
from shpeft.config.schema import RunConfig
from shpeft.runs import RunFolder, delete_run, deleted_runs, find_run, list_runs
from shpeft.runs.owner import OWNER, owner_of, write_owner
from shpeft.runs.uploads import save_upload
from tests.helpers.app_accounts import Be
from tests.helpers.app_pages import button_labels, open_page, open_test_image, page_text, press
from tests.helpers.image_folders import build_folder

REFUSED = "you can use it, not change it"


def test_a_run_of_another_account_is_used_and_not_changed(own_run: RunFolder, be: Be) -> None:
    write_owner(own_run.path, be("reader"))
    assert "Delete" in button_labels(open_page("runs", own_run.name))
    be("other")
    app = open_page("runs", own_run.name)
    assert "Delete" not in button_labels(app)
    assert REFUSED in page_text(app)
    assert not any(field.label in ("Name", "Notes") for field in (*app.text_input, *app.text_area))
    be("chief", admin=True)
    assert "Delete" in button_labels(open_page("runs", own_run.name))


def test_the_check_is_made_when_a_button_is_pressed_not_only_when_it_is_drawn(own_run: RunFolder, be: Be) -> None:
    write_owner(own_run.path, be("reader"))
    app = open_page("runs", own_run.name)
    be("other")
    press(app, "Delete")
    assert "belongs to another account" in page_text(app)
    assert [run.name for run in list_runs()] == [own_run.name]


def test_rules_of_another_accounts_run_are_not_saved(own_run: RunFolder, be: Be) -> None:
    write_owner(own_run.path, be("reader"))
    before = (own_run.path / "trust.json").read_bytes()
    be("other")
    app = open_page("evaluate", own_run.name)
    coverage = next(field for field in app.number_input if field.label == "Coverage")
    coverage.set_value(0.8).run()
    assert "changes are shown here and not saved" in page_text(app)
    assert (own_run.path / "trust.json").read_bytes() == before
    be("reader")
    app = open_page("evaluate", own_run.name)
    next(field for field in app.number_input if field.label == "Coverage").set_value(0.8).run()
    assert (own_run.path / "trust.json").read_bytes() != before


def test_the_cache_that_all_share_is_an_administrators_to_empty(be: Be) -> None:
    be("reader")
    app = open_page("train")
    assert "MiB of resized images" in page_text(app)
    assert "Empty the cache" not in button_labels(app)
    be("chief", admin=True)
    assert "Empty the cache" in button_labels(open_page("train"))


def test_the_trash_shows_ones_own_runs_and_empties_those_alone(own_run: RunFolder, be: Be) -> None:
    second = Path(shutil.copytree(own_run.path, own_run.path.with_name("second")))
    write_owner(own_run.path, be("reader"))
    write_owner(second, be("other"))
    for name in ("tiny", "second"):
        delete_run(find_run(name))
    app = open_page("runs")
    assert "Trash (1)" in [part.label for part in app.expander]
    press(app, "Delete for good")
    assert [run.name for run in deleted_runs()] == ["tiny"]


def test_runs_and_lists_record_whose_they_are(own_run: RunFolder, be: Be, tmp_path: Path) -> None:
    reader = be("reader")
    (tmp_path / "images").mkdir()
    folder = worker().submit(own_run, [tmp_path / "images"], reader)
    assert owner_of(folder.path) == reader.id
    assert [batch.name for batch in list_batches(own_run)] == [folder.name]
    worker().discard(folder)


def test_without_accounts_no_owner_is_written(own_run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    folder = worker().submit(own_run, [tmp_path / "images"])
    assert not (folder.path / OWNER).exists()
    worker().discard(folder)
    assert "Delete" in button_labels(open_page("runs", own_run.name))
    assert not any(caption.value.startswith("Account") for caption in open_page("runs").caption)


def test_another_accounts_run_is_not_calibrated_again(own_run: RunFolder, be: Be) -> None:
    write_owner(own_run.path, be("reader"))
    (own_run.path / "trust.json").unlink()
    assert "Predict the validation images" in button_labels(open_page("evaluate", own_run.name))
    be("other")
    app = open_page("evaluate", own_run.name)
    assert "Predict the validation images" not in button_labels(app)
    assert REFUSED in page_text(app)


@pytest.fixture
def on_dropped_images(own_run: RunFolder, be: Be) -> str:
    """The name of a run on images that the account reader dropped on the page."""
    with tempfile.TemporaryDirectory() as folder:
        build_folder(Path(folder), {"ill": 12, "well": 12, "doubtful": 12})
        files = [
            (path.relative_to(folder).as_posix(), io.BytesIO(path.read_bytes())) for path in Path(folder).rglob("*.png")
        ]
        source = save_upload(files, own_run.path.parent, be("reader"))
    config = own_run.config.model_dump() | {"dataset": {"source": str(source)}}
    (own_run.path / "config.yaml").write_text(RunConfig.parse(config).to_yaml())
    return own_run.name


NOT_SHOWN = "Another account dropped these images: you can use its models, not see its images."


def test_images_that_one_account_dropped_are_not_shown_to_another(on_dropped_images: str, be: Be) -> None:
    source = find_run(on_dropped_images).config.dataset.source
    assert "All images" in button_labels(open_test_image(on_dropped_images))
    be("other")
    for app in (
        open_test_image(on_dropped_images),
        open_page("train", set_kind="Drawn images", set_phantom=source),
        open_page("diagnose", on_dropped_images, set_origin="Folder or zip", set_images_path=source),
    ):
        assert NOT_SHOWN in page_text(app)
        assert "images to learn from" not in page_text(app)
        assert not app.exception


def test_lists_of_one_account_are_not_shown_to_another(own_run: RunFolder, be: Be, tmp_path: Path) -> None:
    build_folder(tmp_path / "images", {"a": 1})
    folders = [worker().submit(own_run, [tmp_path / "images"], be(name)) for name in ("reader", "other")]
    assert [part.label for part in open_page("diagnose", own_run.name).expander if "lists" in part.label] == [
        "Earlier lists (1)"
    ]
    be("chief", admin=True)
    assert "Earlier lists (2)" in [part.label for part in open_page("diagnose", own_run.name).expander]
    be("third")
    assert not any("lists" in part.label for part in open_page("diagnose", own_run.name).expander)
    for folder in folders:
        worker().discard(folder)


def test_a_session_of_one_account_holds_nothing_for_another(own_run: RunFolder, be: Be) -> None:
    be("reader")
    app = open_page("diagnose", own_run.name, set_origin="Test images", worklist="images of the reader")
    be("other")
    app.run()
    assert "worklist" not in app.session_state
    assert app.session_state["account"] == be("other").id


CHANGES = {
    "calibrate_run",
    "delete_run",
    "discard",
    "empty_trash",
    "import_run",
    "rename_run",
    "restore_run",
    "resume",
    "save",
    "stop",
    "submit",
    "write",
}
"""Functions of the library that change a run or a list, or make one."""

OF_OTHERS = {"decision_rules", "st", "streamlit", "image", "executor", "file", "task", "figures", "out", "buffer"}
"""What has functions of these names that change neither."""


def changing(module: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.Module, str]]:
    """Yield the outermost function around each call that changes a run or a list, and what it calls."""
    outer = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    scopes: list[ast.FunctionDef | ast.Module] = [*outer, module]
    for scope in scopes:
        inner = [node for node in module.body if node not in outer] if scope is module else [scope]
        for call in (node for part in inner for node in ast.walk(part) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            target = ast.unparse(call.func).split(".")[0].split("(")[0]
            if name in CHANGES and target not in OF_OTHERS and not target.startswith("_"):
                yield scope, ast.unparse(call.func)


def test_whatever_changes_a_run_asks_whose_it_is() -> None:
    calls = 0
    for path in sorted((Path(__file__).resolve().parents[2] / "app").rglob("*.py")):
        for scope, called in changing(ast.parse(path.read_text())):
            calls += 1
            assert "account." in ast.unparse(scope), f"{path.name}: {called}"
    assert calls >= 15

"""A table on disk: lines of several writers, and probabilities in a file a cell or packed into one archive."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from shpeft.compare import Table
from shpeft.compare.cells import list_cells
from shpeft.compare.predictions import Archive, decode_cell, encode_cell, from_arrays, to_arrays
from shpeft.compare.table import ARCHIVE
from shpeft.errors import RunError
from shpeft.evaluation.predict import Predictions
from tests.helpers.comparison_tables import made_up, planned, predicted


def probabilities(table: Table) -> dict[str, Predictions]:
    """The stored predictions of every cell."""
    return {key: table.predictions(key) for key in table.cells()}


def assert_same(a: dict[str, Predictions], b: dict[str, Predictions]) -> None:
    assert a
    assert a.keys() == b.keys()
    for key in a:
        assert (a[key].labels, a[key].groups, a[key].classes) == (b[key].labels, b[key].groups, b[key].classes)
        assert np.array_equal(a[key].probabilities, b[key].probabilities)


def test_stored_predictions_name_no_case() -> None:
    p = np.array([[0.25, 0.75], [0.5, 0.5]])
    before = Predictions(("scan-of-a.png", "b"), (1, 0), ("patient 7", "patient 7"), ("no", "yes"), p)
    data = encode_cell(to_arrays(before))
    after = from_arrays(decode_cell(data))
    assert b"scan-of-a" not in data
    assert after.ids == ("0", "1")
    assert after.groups[0] == after.groups[1] != "patient 7"
    assert (after.labels, after.classes) == (before.labels, before.classes)
    assert np.array_equal(after.probabilities, p)


def test_a_packed_table_holds_the_same_probabilities(tmp_path: Path) -> None:
    table = made_up(tmp_path, planned())
    before = probabilities(table)
    assert len(list(tmp_path.glob("predictions/*.npz"))) == len(before)
    assert table.pack() == len(before)
    assert not list(tmp_path.glob("predictions/*.npz"))
    assert_same(probabilities(table), before)
    assert_same(probabilities(Table(tmp_path, make=False)), before)
    first = (tmp_path / ARCHIVE).read_bytes()
    assert table.pack() == 0
    assert (tmp_path / ARCHIVE).read_bytes() == first


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    """All made-up cells share their test cases; two arms and all datasets share the probabilities of a seed."""
    made_up(tmp_path, planned()).pack()
    with np.load(tmp_path / ARCHIVE) as file:
        assert len(file["cells"]) == 24
        assert sum(name.endswith("/labels") for name in file) == 1
        assert sum(name.endswith("/probabilities") for name in file) == 4


def test_cells_finished_after_packing_are_read_and_packed_too(tmp_path: Path) -> None:
    plan = planned()
    table = made_up(tmp_path, plan, without=("bad",))
    table.pack()
    packed = Archive(tmp_path / ARCHIVE).keys
    made_up(tmp_path, plan)
    before = probabilities(table)
    assert table.pack() > 0
    assert Archive(tmp_path / ARCHIVE).keys > packed
    assert_same(probabilities(table), before)


def test_a_file_whose_cell_has_no_line_yet_is_not_packed(tmp_path: Path) -> None:
    """Another process may be about to append it."""
    table = made_up(tmp_path, planned())
    waiting = tmp_path / "predictions" / "0123456789abcdef.npz"
    waiting.write_bytes(encode_cell(to_arrays(predicted(np.ones(4, bool)))))
    table.pack()
    assert list(tmp_path.glob("predictions/*.npz")) == [waiting]
    assert waiting.stem not in Archive(tmp_path / ARCHIVE).keys


def test_a_table_is_read_while_another_process_packs_it(tmp_path: Path) -> None:
    plan = planned()
    table = made_up(tmp_path, plan)
    before, reader, seen = probabilities(table), Table(tmp_path, make=False), []

    def read() -> None:
        for _ in range(10):
            seen.append(probabilities(reader))

    thread = threading.Thread(target=read)
    thread.start()
    while thread.is_alive():
        table.pack()
        made_up(tmp_path, plan)  # writes each cell's own file again
    thread.join()
    assert len(seen) == 10
    for stored in seen:
        assert_same(stored, before)


def test_cells_are_copied_from_a_packed_table(tmp_path: Path) -> None:
    plan = planned()
    source = made_up(tmp_path / "source", plan, failed=(("bad", "a"),))
    before = {key: r for key, r in source.cells().items() if r["status"] == "finished"}
    source.pack()
    copy = Table(tmp_path / "copy")
    copy.copy_cells(source, [cell.key for cell in list_cells(plan)])
    assert copy.cells() == source.cells()
    assert len(before) == 22
    for key in before:
        assert np.array_equal(copy.predictions(key).probabilities, source.predictions(key).probabilities)


def test_missing_or_damaged_probabilities_are_an_error(tmp_path: Path) -> None:
    table = made_up(tmp_path / "a", planned())
    key = next(iter(table.cells()))
    table.pack()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / ARCHIVE).write_bytes((tmp_path / "a" / ARCHIVE).read_bytes()[:500])
    with pytest.raises(RunError, match="cannot be read"):
        Table(tmp_path / "b").predictions(key)
    (tmp_path / "a" / ARCHIVE).unlink()
    with pytest.raises(RunError, match=r"Remove its line from cells\.jsonl"):
        table.predictions(key)


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    table = Table(tmp_path)

    def write(number: int) -> None:
        for i in range(5):
            table.add_trial({"key": f"{number}-{i}", "x": "y" * 500})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(table.trials()) == 20


def test_validation_probabilities_are_kept_packed_and_copied(tmp_path: Path) -> None:
    table = made_up(tmp_path / "a", planned())
    key, *others = table.cells()
    validation = predicted(np.array([True, False, True]), 0.8)
    table.add_cell(table.cells()[key], table.predictions(key), validation)
    for stage in ("files", "archive"):
        assert table.has_validation(key), stage
        assert not table.has_validation(others[0])
        assert np.allclose(table.validation(key).probabilities, validation.probabilities)
        assert table.pack() == (len(others) + 1 if stage == "files" else 0)
    copy = Table(tmp_path / "b")
    copy.copy_cells(table, [key, others[0]])
    assert copy.validation(key).labels == (0, 1, 0)
    assert not copy.has_validation(others[0])

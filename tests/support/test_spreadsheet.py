"""Cells that spreadsheets must not carry out."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.widgets.data_table import csv_text
from shpeft.batch.csv_rows import line
from shpeft.batch.worklist import with_findings
from shpeft.evaluation.predict import Predictions
from shpeft.runs.predictions import parse_predictions, predictions_text
from shpeft.support.spreadsheet import as_text, as_written

HOSTILE = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1"]


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    assert as_written(str(as_text(text))) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_begins_as_a_formula(text: str) -> None:
    assert str(as_text(text)).startswith("'")


@given(st.floats(allow_nan=False))
def test_numbers_stay_numbers(number: float) -> None:
    assert as_text(number) is number
    assert math.isclose(float(str(as_text(repr(number)))), number)


@pytest.mark.parametrize("name", HOSTILE[:4])
def test_every_csv_writes_text(name: str) -> None:
    tables = [
        csv_text([{"class": name}]),
        line(["case", name]).decode(),
        with_findings("id\ncase-1\n", {"case-1": name}),
        predictions_text({"finetuned": predictions(name)}),
    ]
    for table in tables:
        assert not any(cell.startswith(("=", "+", "-", "@")) for row in csv.reader(io.StringIO(table)) for cell in row)


def predictions(name: str) -> Predictions:
    """Predictions of one case whose class and subgroup have this name."""
    return Predictions(("case-1",), (0,), ("1",), (name, "other"), np.array([[0.5, 0.5]]), (name,))


@pytest.mark.parametrize("name", HOSTILE[:4])
def test_predictions_come_back_with_their_classes(name: str, tmp_path: Path) -> None:
    again = parse_predictions(predictions_text({"finetuned": predictions(name)}), "finetuned")
    assert (again.classes, again.subgroups, list(again.labels)) == ((name, "other"), (name,), [0])

"""Tables as CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with the first one's keys as the header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def download(label: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """A button that saves the rows as a CSV file; nothing where there are none."""
    if rows:
        st.download_button(
            label, lambda: csv_text(rows), name, "text/csv", on_click="ignore", icon=":material/download:"
        )

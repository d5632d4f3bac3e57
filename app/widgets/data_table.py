"""Tables as CSV, and the numbers of a chart as a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from shpeft.support.markdown import plain
from shpeft.support.spreadsheet import as_text


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the rows as CSV, without formulas; the keys of the first row are the header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: as_text(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def text_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw a table whose cells wrap; they hold text, which is not read as Markdown."""
    cells = [{plain(key): plain(value) for key, value in row.items()} for row in rows]
    st.table(cells, hide_index=True, border="horizontal")


def numbers_table(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    formats: dict[str, str] | None = None,
    *,
    label: str = "Show as a table",
    open: bool = False,
    first: int | None = None,
    sentences: bool = False,
) -> None:
    """Draw a chart's numbers as a table with a CSV download, for screen readers and other programs.

    Args:
        name: of the CSV file, without its ending.
        formats: number formats by column.
        first: how many rows the page shows; the CSV has all of them.
        sentences: set it if cells hold whole sentences, which must wrap instead of being cut off.
    """
    if not rows:
        return
    with st.expander(label, expanded=open):
        if sentences:
            text_table(rows[:first])
        else:
            columns = {key: st.column_config.NumberColumn(format=form) for key, form in (formats or {}).items()}
            st.dataframe(rows[:first], hide_index=True, column_config=columns, placeholder="")
        st.download_button(
            "Download CSV",
            lambda: csv_text(rows),
            f"{name}.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
            key=f"csv-{name}",
        )

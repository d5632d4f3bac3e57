"""Tables as CSV files, and as what a chart shows to those who do not see it."""

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


def same_numbers(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    formats: dict[str, str] | None = None,
    *,
    label: str = "The same numbers in a table",
    open: bool = False,
    first: int | None = None,
    sentences: bool = False,
) -> None:
    """A chart's numbers, for those who do not see it and for other programs; of many rows the first, all in the CSV.

    Args:
        sentences: some cells hold whole sentences, which must not be cut off at the end of a line.
    """
    if not rows:
        return
    with st.expander(label, expanded=open):
        if sentences:
            st.table(list(rows[:first]), hide_index=True, border="horizontal")
        else:
            columns = {key: st.column_config.NumberColumn(format=form) for key, form in (formats or {}).items()}
            st.dataframe(rows[:first], hide_index=True, column_config=columns)
        st.download_button(
            "Download as CSV",
            lambda: csv_text(rows),
            f"{name}.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
            key=f"csv-{name}",
        )

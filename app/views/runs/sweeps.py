"""Sweeps: runs that belong together, with one table of their results."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app.widgets import layout
from shpeft.runs.sweep import SweepFolder, list_sweeps
from shpeft.support.formatting import TITLES, interval, main_metrics, spread
from shpeft.support.markdown import plain

MODELS = {"finetuned": "fine-tuned", "probe": "linear probe", "difference": "difference"}
MEASURED = tuple(f", {title}" for title in MODELS.values())
"""How the columns of a model's metrics end."""


def show_sweeps() -> None:
    """Draw every sweep of the runs folder."""
    for folder in list_sweeps():
        with layout.error_boundary():
            summary, members = folder.summary(), folder.members
            finished = len(summary["runs"]) if summary else 0
            with st.expander(f"Sweep {plain(folder.name)}: {finished} of {len(members)} runs finished"):
                if summary:
                    _results(folder, summary)
                if finished < len(members):
                    st.caption("To continue it:")
                    st.code(f"shpeft sweep {folder.path}", language=None, wrap_lines=True)


def _results(folder: SweepFolder, summary: Mapping[str, Any]) -> None:
    """Draw the folds together, the combinations of settings, and the runs."""
    several = len(summary["combinations"]) > 1
    if summary["pooled"]:
        st.markdown("**All folds together.** Each image is predicted by a model that never saw its patient.")
        st.dataframe(
            [row for entry in summary["pooled"] for row in _pooled_rows(entry, several)],
            hide_index=True,
            placeholder="",
        )
    if any(entry["val_loss"]["runs"] > 1 for entry in summary["combinations"]) or several:
        st.markdown("**Runs together**: mean ± standard deviation, and the 95 % interval of the mean.")
        together = [row for entry in summary["combinations"] for row in _combination_rows(entry, summary["best"])]
        st.dataframe(together, hide_index=True, placeholder="")
    st.markdown("**Each run**")
    rows = [_run_row(row) for row in summary["runs"]]
    decimals = {name: st.column_config.NumberColumn(format="%.3f") for name in rows[0] if name.endswith(MEASURED)}
    st.dataframe(rows, hide_index=True, placeholder="", column_config=decimals)
    st.download_button(
        "Download CSV",
        (folder.path / "table.csv").read_bytes(),
        f"{folder.name}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
        key=f"sweep-{folder.name}",
    )


def _pooled_rows(entry: Mapping[str, Any], several: bool) -> list[dict[str, object]]:
    first: dict[str, object] = {"combination": entry["combination"] + 1} if several else {}
    return _measures(first | {"seed": entry["seed"], "test images": entry["finetuned"]["cases"]}, entry, interval)


def _combination_rows(entry: Mapping[str, Any], best: int) -> list[dict[str, object]]:
    first: dict[str, object] = {name: str(value) for name, value in entry["settings"].items()}
    first |= {"runs": entry["val_loss"]["runs"], "validation loss": spread(entry["val_loss"])}
    if entry["settings"]:
        first["lowest validation loss"] = "yes" if entry["number"] == best else ""
    return _measures(first, entry, spread)


def _measures(
    first: Mapping[str, object], entry: Mapping[str, Any], text: Callable[..., str]
) -> list[dict[str, object]]:
    """Return a row for each main metric, with both models and their difference side by side."""
    return [
        {**first, "measure": TITLES[name]}
        | {title: text(entry[model][name], sign=model == "difference") for model, title in MODELS.items()}
        for name in main_metrics(entry["finetuned"])
    ]


def _run_row(row: Mapping[str, Any]) -> dict[str, object]:
    shown: dict[str, object] = {"run": row["run"], "seed": row["seed"]}
    shown |= {} if row["fold"] is None else {"fold": row["fold"]}
    shown |= {name: str(value) for name, value in row["settings"].items()}
    shown["test images"] = ", ".join(f"{count} {name}" for name, count in row["test"].items())
    for name in main_metrics(row["finetuned"]):
        for model in ("finetuned", "probe"):
            shown[f"{TITLES[name]}, {MODELS[model]}"] = row[model][name]
    return shown

"""The backbone of a new run: a few recommended ones, or any other under Advanced."""

from typing import Any

import streamlit as st

from app.views.train import presets
from app.views.train.setting_widgets import about, advanced_paths, draw, draw_all, help_of, widget_key
from app.widgets import layout, uploads
from app.widgets.folder_browser import choose_path
from shpeft.backbones import list_backbones
from shpeft.backbones.catalog import CatalogEntry, entry_of, recommended
from shpeft.config import EMBEDDED
from shpeft.datasets import Dataset
from shpeft.pipeline import rough_seconds
from shpeft.support.markdown import plain
from shpeft.support.progress import format_duration

OTHER = "Another one, under Advanced"
PRETRAINED, FILE, RANDOM = "Pretrained", "A file", "Random"
CASES = (600, 200, 200)
"""Training, validation and test images that times refer to before there are images."""

ACCESS = {"bundled": "ships with shpeft", "open": "downloaded once", "gated": "needs an account of the model hub"}


def choose(data: Dataset | None) -> None:
    """Draw the recommended backbones, each with what it is for, its size and the time of a run."""
    entries = {entry.name: entry for entry in recommended()}
    current = st.session_state.get(widget_key("backbone.name"), EMBEDDED)
    st.session_state["recommended"] = current if current in entries else OTHER
    cases = tuple(len(split) for split in data.splits) if data else CASES
    st.radio(
        "Backbone",
        [*entries, OTHER],
        key="recommended",
        format_func=lambda name: plain(entries[name].title if name in entries else name),
        captions=[_caption(entry, cases) for entry in entries.values()] + [""],
        on_change=_apply,
        help="The pretrained model that learns your images. Times are for this computer"
        + ("." if data else f" and {sum(CASES):,} images."),
    )


def _caption(entry: CatalogEntry, cases: tuple[int, ...]) -> str:
    parts = [f"{entry.weights / 1e6:,.0f} M weights", ACCESS[entry.access]]
    if presets.speed_is_known():
        parts.insert(1, f"about {format_duration(rough_seconds(entry.gmacs, cases))}")
    return plain(f"{entry.purpose[:1].upper()}{entry.purpose[1:]}. {', '.join(parts)}.")


def _apply() -> None:
    """Set the widgets of the chosen backbone's settings."""
    entry = entry_of(st.session_state["recommended"])
    if entry is None:
        return
    st.session_state[widget_key("backbone.name")] = entry.name
    st.session_state[widget_key("backbone.image_size")] = "" if entry.name == EMBEDDED else str(entry.image_size)
    st.session_state["set_weights"] = PRETRAINED


def settings() -> dict[str, Any]:
    """Draw the settings of any backbone and return them; weights are empty until a file is given."""
    left, right = st.columns([3, 1])
    titles = {name: name for name in list_backbones()}
    titles |= {entry.name: f"{entry.title} ({entry.name})" for entry in recommended()}
    name = draw("backbone.name", left, titles)
    size = draw("backbone.image_size", right, placeholder="the model's own")
    weights = "pretrained" if name == EMBEDDED else _weights()
    return {"name": name, "image_size": size, "weights": weights} | draw_all(advanced_paths("backbone"))


def _weights() -> str:
    choice = st.segmented_control(
        about("backbone.weights").label,
        [PRETRAINED, FILE, RANDOM],
        default=PRETRAINED,
        required=True,
        key="set_weights",
        persist_state="session",
        help=help_of("backbone.weights"),
    )
    if choice != FILE:
        return {PRETRAINED: "pretrained", RANDOM: "random"}[choice]
    if files := uploads.drop("Drop a file of weights", "weights", "weights"):
        if path := uploads.store([(file.name, file) for file in files]):
            st.session_state["set_file"] = path
        st.rerun()
    return choose_path(
        f"Or its path on {plain(layout.computer())}",
        "set_file",
        "weights",
        help="A .safetensors file with timm's parameter names.",
        placeholder="/home/me/weights.safetensors",
    )

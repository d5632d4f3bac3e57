"""The form of a new run in three steps: widgets in, a RunConfig out."""

from pathlib import Path
from typing import Any

import streamlit as st

from app.views.train import backbones, data_source, must_not_miss, presets
from app.views.train.advanced import advanced
from app.views.train.setting_widgets import about, draw, help_of
from app.widgets import dataset_card, layout
from shpeft.backbones import resolve_device
from shpeft.backbones.weight_files import local_file
from shpeft.config import RunConfig
from shpeft.config.schema import AUTO, Budget
from shpeft.datasets import Dataset
from shpeft.pipeline import preview_selection
from shpeft.runs.listing import checked_name, joined_words

ADVANCED = ("Reading the images", "Model", "Weights to train", "Training", "Run")
"""Tabs of the settings that a first run does not need."""

SHARES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)


def settings() -> tuple[RunConfig, str] | None:
    """Draw the form; return the configuration and the run's name once "Start" is pressed, else None."""
    st.header("1 · Images", anchor=False)
    source = data_source.choose()
    card = st.container()
    st.header("2 · What must not be missed", anchor=False)
    question = st.container()
    st.header("3 · Start", anchor=False)
    left, right = st.columns([3, 2], gap="large")
    choice = left.container()
    with st.expander("Advanced"):
        presets.choose()
        times = st.container()
        reading, model, weights, training, run = st.tabs(ADVANCED)
        with reading:
            dataset = {"source": source, **data_source.reading()}
        with model:
            backbone = backbones.settings()
        with weights:
            budget = _budget()
            note = st.empty()
        with training:
            epochs, seed, device = _training()
        more = advanced(weights, training, run)
    raw = {
        **more,
        "backbone": backbone,
        "dataset": dataset,
        "selection": {"budget": budget, **more["selection"]},
        "training": {"epochs": epochs, **more["training"]},
        "seed": seed,
        "device": device,
    }
    data = None
    with card, layout.error_boundary():
        data = dataset_card.show_dataset(RunConfig.parse({"dataset": dataset, "seed": seed}))
    with question:
        raw["decision"] = must_not_miss.choose(data)
    with choice:
        backbones.choose(data)
    with right, layout.error_boundary():
        config = RunConfig.parse(raw)
        _preview(note, config, data)
        with times:
            presets.times(config, data)
        request = _start_button(config)
        presets.total(config, data)  # below the button: what appears above it would move it away from a click
        return request
    return None


def _start_button(config: RunConfig) -> tuple[RunConfig, str] | None:
    """Draw the button; return the configuration and the run's name once it is pressed. What is missing stands above."""
    name = st.text_input(
        "Name of the run (optional)", key="set_name", persist_state="session", placeholder="date, dataset and a number"
    )
    if not config.backbone.weights:
        st.info("Give the file of pretrained weights, under Advanced.")
    elif not config.dataset.source:
        st.info("Give the images first.")
    else:
        if config.backbone.weights not in ("pretrained", "random"):
            local_file(Path(config.backbone.weights))
        if name.strip():
            checked_name(joined_words(name))
    ready = bool(config.backbone.weights and config.dataset.source)
    pressed = st.button("Start", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not ready)
    return (config, name.strip()) if pressed else None


def _budget() -> Budget:
    """Draw a slider of shares; a field for an exact count and the choice by validation take precedence."""
    chosen = st.toggle(
        "Choose the number of weights by validation",
        key="set_auto",
        persist_state="session",
        help="Trains with 0.01, 0.1 and 1 % of the weights, and takes what has the lowest validation loss. Takes about "
        "three times as long.",
    )
    left, right = st.columns([3, 1])
    count: int | None = right.number_input(
        "or exactly",
        1,
        None,
        None,
        1,
        key="set_count",
        persist_state="session",
        placeholder="number",
        disabled=chosen,
        help="An exact number of weights. It takes precedence over the slider; empty it to use the slider again.",
    )
    share: Budget = left.select_slider(
        about("selection.budget").label,
        SHARES,
        RunConfig().selection.budget,
        format_func=lambda share: f"{100 * share:g} %",
        key="set_share",
        persist_state="session",
        disabled=chosen or count is not None,
        help=help_of("selection.budget"),
    )
    if chosen:
        return AUTO
    return share if count is None else count


def _training() -> tuple[int, int, str]:
    left, middle, right = st.columns(3)
    detected = str(resolve_device())
    devices = {"auto": f"Automatic ({detected})", detected: detected, "cpu": "cpu"}
    return draw("training.epochs", left), draw("seed", middle), draw("device", right, devices)


def _preview(note: Any, config: RunConfig, data: Dataset | None) -> None:
    """Show what the budget amounts to, with the library's numbers."""
    selection = preview_selection(config, len(data.classes) if data else 2)
    at_most = "At most " if config.selection.budget == AUTO else ""
    note.markdown(
        f"{at_most}**{selection.selected:,}** of {selection.backbone:,} backbone weights: "
        f"**{layout.share(selection.share)}**"
        + (f"; with head {layout.share(selection.share_with_head)}" if data else "")
        + f". Selected among {selection.eligible:,}."
    )

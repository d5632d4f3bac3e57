"""The settings of a new run: widgets in, a RunConfig out."""

from pathlib import Path
from typing import Any

import datacard
import presets
import shared
import sources
import streamlit as st
from advanced import advanced

from shpeft.backbones import list_backbones, resolve_device
from shpeft.backbones.loading import local_file
from shpeft.config import EMBEDDED, RunConfig
from shpeft.datasets import Dataset
from shpeft.pipeline import describe_selection

DEFAULT = RunConfig()
SHARES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2)
PRETRAINED, FILE, RANDOM = "Pretrained", "A file", "Random"


def settings() -> tuple[RunConfig, str] | None:
    """Draw the form; the configuration and the run's name once "Start" is pressed, else None."""
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.header("Images", anchor=False)
        dataset = sources.choose()
        st.header("Model", anchor=False)
        backbone = _backbone()
        budget = _budget()
        note = st.empty()
        st.header("Training", anchor=False)
        presets.choose()
        times = st.container()
        training, seed, device = _training()
        with st.expander("Advanced"):
            selection, more, precision = advanced()
    raw = {
        "backbone": backbone,
        "dataset": dataset,
        "selection": {"budget": budget, **selection},
        "training": {**training, **more},
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    with right:
        data = None
        with shared.boundary():
            data = datacard.show(RunConfig.parse(raw))
        with shared.boundary():
            config = RunConfig.parse(raw)
            _preview(note, config, data)
            with times:
                presets.times(config, data)
            return _start(config)
    return None


def _start(config: RunConfig) -> tuple[RunConfig, str] | None:
    """The button, where nothing is missing; the configuration and the run's name once it is pressed."""
    if not config.dataset.source:
        return None
    if not config.backbone.weights:
        st.info("Give the file of weights on the left.")
        return None
    if config.backbone.weights not in ("pretrained", "random"):
        local_file(Path(config.backbone.weights))
    name = st.text_input("Name of the run (optional)", key="set_name", placeholder="date, dataset and a number")
    pressed = st.button("Start fine-tuning", type="primary", icon=":material/play_arrow:", width="stretch")
    return (config, name.strip()) if pressed else None


def _backbone() -> dict[str, Any]:
    left, right = st.columns([3, 1])
    name = left.selectbox(
        "Backbone",
        list_backbones(),
        key="set_backbone",
        format_func=lambda name: (
            "embedded: a small vision transformer that ships with shpeft" if name == EMBEDDED else name
        ),
        accept_new_options=True,
        help="The pretrained model that is adapted. Type a part of a name to search among timm's models.",
    )
    size = right.number_input(
        "Image size",
        16,
        2048,
        None,
        1,
        key="set_size",
        placeholder="its own",
        help="Side of the square that each image is resized to, in pixels. Smaller is faster.",
    )
    return {"name": name, "image_size": size, "weights": "pretrained" if name == EMBEDDED else _weights()}


def _weights() -> str:
    choice = st.segmented_control(
        "Pretrained weights",
        [PRETRAINED, FILE, RANDOM],
        default=PRETRAINED,
        required=True,
        key="set_weights",
        help="*Pretrained* takes timm's weights, from this computer's cache or from the model hub. *A file* is a "
        "`.safetensors` file with timm's names. *Random* is for trying things out only: it has learned nothing.",
    )
    if choice == FILE:
        path = st.text_input("File of weights", key="set_file", placeholder="/home/me/weights.safetensors").strip()
        return path and str(Path(path).expanduser())
    return {PRETRAINED: "pretrained", RANDOM: "random"}[choice]


def _budget() -> int | float:
    left, right = st.columns([3, 1])
    count = right.number_input(
        "or exactly",
        1,
        None,
        None,
        1,
        key="set_count",
        placeholder="how many",
        help="An exact number of weights. It takes precedence over the slider; empty it to use the slider again.",
    )
    share = left.select_slider(
        "How much of the backbone may change",
        SHARES,
        DEFAULT.selection.budget,
        format_func=lambda share: f"{100 * share:g} %",
        key="set_share",
        disabled=count is not None,
        help="The share of the backbone's weights that training may change. All others stay as they are, to the bit. "
        "The classifier on top is always trained.",
    )
    return share if count is None else count


def _training() -> tuple[dict[str, Any], int, str]:
    left, middle, right = st.columns(3)
    chosen = {
        "epochs": left.number_input(
            "Epochs",
            1,
            1000,
            DEFAULT.training.epochs,
            key="set_epochs",
            help="How often the training images are gone through. The best epoch on the validation images is kept.",
        )
    }
    seed = middle.number_input(
        "Seed",
        0,
        2**31 - 1,
        DEFAULT.seed,
        key="set_seed",
        help="Decides everything that is drawn at random. The same seed gives the same result.",
    )
    here = str(resolve_device())
    device = right.selectbox(
        "Device",
        list(dict.fromkeys(["auto", here, "cpu"])),
        key="set_device",
        format_func=lambda name: f"automatic ({here})" if name == "auto" else name,
        help="Where the work is done: a graphics card where there is one, else the processor.",
    )
    return chosen, seed, device


def _preview(note: Any, config: RunConfig, data: Dataset | None) -> None:
    """What the budget comes to, with the library's numbers."""
    found = describe_selection(config, len(data.classes) if data else 2)
    words = (
        f"**{found.selected:,}** of {found.backbone:,} backbone weights: **{shared.share(found.share)}**"
        + (f"; with head {shared.share(found.share_with_head)}" if data else "")
        + f". Chosen among {found.eligible:,}."
    )
    note.markdown(words)

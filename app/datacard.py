"""What a dataset holds, before anything is trained on it."""

import json
from typing import Any

import pictures
import streamlit as st

from shpeft.config import RunConfig
from shpeft.datasets import Dataset, Split, load_dataset

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def show(config: RunConfig) -> Dataset | None:
    """Draw the card; phantoms at once, other images when asked, since reading them all can take a while."""
    source = config.dataset.source
    st.subheader("What they show", anchor=False)
    if not source:
        st.info("Give the folder of your images on the left.")
        return None
    if not source.startswith("phantom:"):
        key = _key(config)
        if st.button("Look at the images", help="Reads every image once and says what was found."):
            st.session_state["looked_at"] = key
            load.clear(*key)
        if st.session_state.get("looked_at") != key:
            st.caption("Every image is read and checked when you ask for it here, or when the run starts.")
            return None
    data = load(*_key(config))
    _card(data)
    return data


def load_of(config: RunConfig) -> Dataset:
    """The dataset of a run, kept in memory for the next time."""
    return load(*_key(config))


def _key(config: RunConfig) -> tuple[str, int]:
    """What decides which images there are and how they are split, as a cache can compare it."""
    return config.dataset.model_dump_json(), config.seed


@st.cache_resource(show_spinner=False, max_entries=4)
def load(dataset: str, seed: int) -> Dataset:
    """Read the dataset of this configuration (JSON), with a bar."""
    bar = st.progress(0.0, "Reading the images")

    def progress(stage: str, done: int, total: int) -> None:
        bar.progress(min(1.0, done / max(1, total)), f"{stage}: {done:,} of {total:,}")

    try:
        return load_dataset(**json.loads(dataset), seed=seed, progress=progress)
    finally:
        bar.empty()


def _card(data: Dataset) -> None:
    card = data.card
    pictures.strip(examples(data.train), "the first training image of class")
    st.dataframe(
        [
            {"": SPLITS[split], **{name: counts.get(name, 0) for name in data.classes}}
            for split, counts in card["counts"].items()
        ],
        hide_index=True,
    )
    for warning in card["warnings"]:
        st.warning(warning, icon=":material/warning:")
    if card["unreadable"]:
        with st.expander(f"{len(card['unreadable'])} damaged images are left out"):
            st.dataframe([{"file": file, "reason": reason} for file, reason in card["unreadable"]], hide_index=True)
    about = {
        "Modality": card["modality"],
        "Size": _size(card["sizes"]),
        "Split": card["split_rule"],
        "Notice": card["notice"],
    }
    st.caption("  \n".join(f"**{name}.** {words}" for name, words in about.items() if words))


def _size(sizes: dict[str, Any] | None) -> str | None:
    if sizes is None:
        return None
    width, height = sizes["width"], sizes["height"]
    middle = f"{width['median']} × {height['median']} pixels"
    if width["min"] == width["max"] and height["min"] == height["max"]:
        return f"{middle}."
    return f"{middle} as a median; {width['min']} to {width['max']} wide, {height['min']} to {height['max']} high."


def examples(split: Split) -> dict[str, Any]:
    """The first image of each class that the split holds, by the class's name."""
    return {
        name: split.image(split.labels.index(label))
        for label, name in enumerate(split.classes)
        if label in split.labels
    }

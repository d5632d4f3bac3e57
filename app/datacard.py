"""What a dataset holds, before anything is trained on it."""

import json
from typing import Any

import pictures
import streamlit as st

from shpeft.config import RunConfig
from shpeft.datasets import Dataset, Opening, Split
from shpeft.datasets.cache import clear_cache, usage

Key = tuple[str, int]

AT_ONCE = 0.4
"""Seconds that a page waits for a dataset before it shows how far it is."""

KEPT = 4
"""Datasets that stay in memory."""

NAMED = 1000
"""Damaged files that are listed."""

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def show(config: RunConfig) -> Dataset | None:
    """Draw the card; phantoms at once, other images when asked, since reading them all can take a while."""
    source = config.dataset.source
    st.header("What they show", anchor=False)
    if not source:
        st.info("Give the folder of your images on the left.")
        return None
    key = _key(config)
    if not source.startswith("phantom:"):
        if st.button("Look at the images", help="Reads every image that is new and says what was found."):
            st.session_state["looked_at"] = key
            _forget(key)
        if st.session_state.get("looked_at") != key:
            st.caption("Every image is read and checked when you ask for it here, or when the run starts.")
            return None
    new = key not in _openings()
    opening = _opening(key)
    if not opening.wait(AT_ONCE if new else 0):
        _watch(key)
        return None
    data = opening.result()
    _card(data)
    return data


def load_of(config: RunConfig) -> Dataset:
    """The dataset of a run, kept in memory for the next time; with a bar while it is opened."""
    opening = _opening(_key(config))
    if not opening.wait(AT_ONCE):
        bar = st.progress(0.0)
        while not opening.wait(AT_ONCE):
            bar.progress(*_stage(opening))  # and where the page is left, Streamlit ends the waiting here
        bar.empty()
    return opening.result()


def _key(config: RunConfig) -> Key:
    """What decides which images there are and how they are split, as a dictionary can compare it."""
    return config.dataset.model_dump_json(), config.seed


@st.cache_resource(show_spinner=False)
def _openings() -> dict[Key, Opening]:
    """The datasets that were asked for last, by all pages and browsers."""
    return {}


def _opening(key: Key) -> Opening:
    """The dataset of this configuration, begun to be opened now where it was not before."""
    openings = _openings()
    found = openings.pop(key, None) or Opening(**json.loads(key[0]), seed=key[1])
    openings[key] = found
    for old in [old for old, opening in openings.items() if opening.done][:-KEPT]:
        openings.pop(old, None)
    return found


def _forget(key: Key) -> None:
    """Stop opening this dataset, or let go of it; files that were checked stay known."""
    if (opening := _openings().pop(key, None)) is not None:
        opening.cancel()


@st.fragment(run_every=0.5)
def _watch(key: Key) -> None:
    """How far the opening is, and a button that stops it; the page is drawn anew when it is done."""
    opening = _openings().get(key)
    if opening is None or opening.done:
        st.rerun()
    st.progress(*_stage(opening))
    if st.button("Stop", help="What was read so far is not read again the next time."):
        _forget(key)
        st.session_state.pop("looked_at", None)
        st.rerun()


def _stage(opening: Opening) -> tuple[float, str]:
    """How much is done, from 0 to 1, and in words."""
    stage, done, total = opening.progress
    return (min(1.0, done / total), f"{stage}: {done:,} of {total:,}") if total else (0.0, f"{stage} …")


def kept() -> None:
    """A line on what the cache holds, and a button that empties it."""
    found = usage()
    left, right = st.columns([3, 1], vertical_alignment="center")
    if found.folder is None:
        left.caption("No resized images are kept: the cache is turned off.")
        return
    left.caption(f"Kept for the next time: {found.bytes / 2**20:,.0f} MiB of resized images: see `shpeft cache`.")
    if right.button("Empty the cache", disabled=not found.bytes, width="stretch"):
        clear_cache()
        st.rerun()


def _card(data: Dataset) -> None:
    card = data.card
    pictures.strip(examples(data.train), "the first training image of class")
    st.dataframe(
        [
            {"images": SPLITS[split], **{name: counts.get(name, 0) for name in data.classes}}
            for split, counts in card["counts"].items()
        ],
        hide_index=True,
    )
    for warning in card["warnings"]:
        st.warning(warning, icon=":material/warning:")
    if card["unreadable"]:
        with st.expander(f"{len(card['unreadable']):,} damaged images are left out"):
            listed = [{"file": file, "reason": reason} for file, reason in card["unreadable"][:NAMED]]
            st.dataframe(listed, hide_index=True)
            if len(listed) < len(card["unreadable"]):
                st.caption(f"The first {NAMED:,}; `shpeft datasets FOLDER` prints all of them.")
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

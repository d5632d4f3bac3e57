"""The dataset card: examples, counts and cautions, shown before training."""

import json
import threading
from concurrent.futures import Future, wait
from typing import Any

import streamlit as st

from app.widgets import account, thumbnails
from shpeft.config.schema import RunConfig
from shpeft.datasets import BackgroundLoad, Dataset, Split
from shpeft.datasets.cache import clear_cache, usage
from shpeft.datasets.marked_images import MarkedImages, find_marked_images
from shpeft.images.burnt_in import outlined
from shpeft.support.markdown import plain
from shpeft.tasks import Regression

Key = tuple[str, int]

GRACE_SECONDS = 0.4
"""How long a page waits for a dataset before it shows a progress bar."""

EXAMPLES = 5
"""Images of each class that the card shows."""

MAX_IN_MEMORY = 4
"""Datasets that stay in memory."""

EXAMINED_SECONDS = 30.0
"""Time for the search for text and markers."""

MARKED_SHOWN = 6
"""Images with text or markers that the card shows."""

MAX_LISTED = 1000
"""Damaged files that the page lists."""

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def show_dataset(config: RunConfig) -> Dataset | None:
    """Draw the card and return the dataset; None until it is loaded, in the background.

    Raises:
        DatasetError: the images cannot be read, or are another account's.
    """
    if not config.dataset.source:
        return None
    account.check_images(config.dataset.source)
    key = _key(config)
    if st.session_state.get("stopped_dataset") == key:
        st.caption("The images are not loaded. They are checked when the run starts, or now:")
        if not st.button("Load the images", help="Images read so far are not read again."):
            return None
        del st.session_state["stopped_dataset"]
    new = key not in _openings()
    opening = _opening(key)
    if not opening.wait(GRACE_SECONDS if new else 0):
        _follow(key)
        return None
    data = opening.result()
    _card(data)
    return data


def load_run_dataset(config: RunConfig) -> Dataset:
    """Return the dataset of a run, from memory if possible; draws a progress bar while it loads.

    Raises:
        DatasetError: the images cannot be read, or are another account's.
    """
    account.check_images(config.dataset.source)
    opening = _opening(_key(config))
    if not opening.wait(GRACE_SECONDS):
        bar = st.progress(0.0)
        while not opening.wait(GRACE_SECONDS):
            bar.progress(*_progress(opening))  # Streamlit interrupts the loop here if the reader leaves the page
        bar.empty()
    return opening.result()


def preload(config: RunConfig) -> None:
    """Start to load a run's dataset before a page needs it; draws nothing."""
    _opening(_key(config))


def _key(config: RunConfig) -> Key:
    """Return what determines the images and their split, as a dictionary key."""
    return config.dataset.model_dump_json(), config.seed


@st.cache_resource(show_spinner=False)
def _openings() -> dict[Key, BackgroundLoad]:
    """Return the datasets requested most recently, by all pages and browsers."""
    return {}


def _opening(key: Key) -> BackgroundLoad:
    """Return the dataset of this configuration; start to load it if necessary."""
    openings = _openings()
    opening = openings.pop(key, None) or BackgroundLoad(**json.loads(key[0]), seed=key[1])
    openings[key] = opening
    for old in [old for old, other in openings.items() if other.done][:-MAX_IN_MEMORY]:
        openings.pop(old, None)
    return opening


def _discard(key: Key) -> None:
    """Stop loading this dataset, or drop it from memory; files already checked stay in the cache."""
    if (opening := _openings().pop(key, None)) is not None:
        opening.cancel()


@st.fragment(run_every=0.5)
def _follow(key: Key) -> None:
    """Show the progress of loading and a Stop button; rerun the page when it is done."""
    opening = _openings().get(key)
    if opening is None or opening.done:
        st.rerun()
    st.progress(*_progress(opening))
    if st.button("Stop", help="Images read so far are not read again next time."):
        _discard(key)
        st.session_state["stopped_dataset"] = key
        st.rerun()


def _progress(opening: BackgroundLoad) -> tuple[float, str]:
    """Return the share done, from 0 to 1, and a sentence."""
    stage, done, total = opening.progress
    return (min(1.0, done / total), f"{plain(stage)}: {done:,} of {total:,}") if total else (0.0, f"{plain(stage)} …")


def cache_usage() -> None:
    """Draw the size of the image cache and, for whoever may, a button that empties it."""
    cache = usage()
    left, right = st.columns([3, 1], vertical_alignment="center")
    if cache.folder is None:
        left.caption("The cache is turned off: resized images are not stored.")
        return
    left.caption(f"The cache holds {cache.bytes / 2**20:,.0f} MiB of resized images; see `shpeft cache`.")
    if not account.may_administer():  # all accounts read from it
        return
    if right.button("Empty the cache", disabled=not cache.bytes, width="stretch"):
        clear_cache()
        st.rerun()


def _card(data: Dataset) -> None:
    card = data.card
    number = isinstance(data.task, Regression)
    thumbnails.image_rows(_examples(data.train), "a training image of" if number else "a training image of class")
    counts = {split: sum(numbers.values()) for split, numbers in card["counts"].items()}
    st.caption(
        f"{counts['train']:,} images to learn from, {counts['val']:,} to choose the best epoch and the "
        f"{'interval' if number else 'threshold'}, "
        f"{counts['test']:,} held out for the test."
    )
    _marked_images(data)
    for warning in card["warnings"]:
        st.warning(plain(warning), icon=":material/warning:")
    for title, key in (("Damaged images", "unreadable"), ("Images under two labels", "contradictory")):
        if card[key]:
            with st.expander(f"{title}, left out ({len(card[key]):,})"):
                listed = [{"file": file, "reason": reason} for file, reason in card[key][:MAX_LISTED]]
                st.dataframe(listed, hide_index=True)
                if len(listed) < len(card[key]):
                    st.caption(f"The first {MAX_LISTED:,} are listed; `shpeft datasets FOLDER` prints all of them.")
    about = {
        "Modality": card["modality"],
        "Size": _size(card["sizes"]),
        "Split": card["split_rule"],
        "Notice": card["notice"],
    }
    with st.expander("Numbers, size and split" if "values" in card else "Counts by class, size and split"):
        st.dataframe(
            [
                {"images": SPLITS[split], **{name: numbers.get(name, 0) for name in data.classes}}
                for split, numbers in card["counts"].items()
            ],
            hide_index=True,
        )
        if values := card.get("values"):
            st.dataframe([{"images": SPLITS[split], **numbers} for split, numbers in values.items()], hide_index=True)
        st.caption("  \n".join(f"**{plain(name)}.** {plain(text)}" for name, text in about.items() if text))


@st.cache_resource(max_entries=16, show_spinner=False)
def _examination(fingerprint: str, _split: Split) -> Future[MarkedImages]:
    """Return the search for text and markers in the images of a dataset, by its fingerprint; it begins at once."""
    search: Future[MarkedImages] = Future()

    def work() -> None:
        try:
            search.set_result(find_marked_images(_split, seconds=EXAMINED_SECONDS))
        except BaseException as error:  # raised by ``result``
            search.set_exception(error)

    threading.Thread(target=work, name="shpeft-marks", daemon=True).start()
    return search


def _marked_images(data: Dataset) -> None:
    """Draw in how many images text or markers are visible, with some of them; nothing if none are."""
    search = _examination(data.fingerprint, data.train)
    if wait([search], GRACE_SECONDS).not_done:
        _await_marked_images(search, data)
    else:
        _draw_marked_images(search.result(), data)


@st.fragment(run_every=2)
def _await_marked_images(search: Future[MarkedImages], data: Dataset) -> None:
    """Draw the result once it is there; the page is not drawn again, which would disturb whoever fills in the form."""
    if search.done():
        _draw_marked_images(search.result(), data)
    else:
        st.caption("Looking for text and markers in the images …")


def _draw_marked_images(marked: MarkedImages, data: Dataset) -> None:
    if not marked.rows:
        return
    st.warning(plain(marked.shortcut or marked.sentence), icon=":material/text_fields:")
    if marked.shortcut:
        st.caption(plain(marked.sentence))
    labels = data.train.labels
    pictures = {
        f"{data.train.task.text(labels[row], data.classes)} · {number}": thumbnails.small(
            outlined(data.train.image(row), marks), 224
        )
        for number, (row, marks) in enumerate(marked.rows[:MARKED_SHOWN], start=1)
    }
    thumbnails.image_row(pictures, "text or markers in an image of")


def _size(sizes: dict[str, Any] | None) -> str | None:
    if sizes is None:
        return None
    width, height = sizes["width"], sizes["height"]
    median = f"{width['median']} × {height['median']} pixels"
    if width["min"] == width["max"] and height["min"] == height["max"]:
        return f"{median}."
    return f"Median {median}; {width['min']} to {width['max']} wide, {height['min']} to {height['max']} high."


def _examples(split: Split) -> dict[str, list[Any]]:
    """Return the first images of each class in the split, by class name and number; of numbers from low to high."""
    if isinstance(split.task, Regression):
        order = sorted(range(len(split)), key=split.labels.__getitem__)
        chosen = [order[step * (len(order) - 1) // (EXAMPLES - 1)] for step in range(EXAMPLES)]
        name, unit = split.classes[0], split.task.unit
        titled = f"{name} ({unit})" if unit else name
        return {f"{titled}, from low to high": [split.image(position) for position in dict.fromkeys(chosen)]}
    positions: dict[int, list[int]] = {}
    for position, labels in enumerate(split.task.strata(split.labels, split.classes)):
        for label in labels:
            if len(shown := positions.setdefault(label, [])) < EXAMPLES:
                shown.append(position)
    counts = split.counts()
    return {
        f"{name} ({counts[name]:,})": [split.image(position) for position in positions.get(label, [])]
        for label, name in enumerate(split.classes)
    }

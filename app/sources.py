"""Which images a new run is to learn from: generated ones, a public set, or a folder of one's own."""

from typing import Any

import datacard
import shared
import streamlit as st

from shpeft.config import RunConfig
from shpeft.datasets import known_sources, recipe_of
from shpeft.images import CT_WINDOWS

DEFAULT = RunConfig().dataset
PHANTOM, MEDMNIST, RECIPE, FOLDER = "Phantom images", "MedMNIST", "Public set", "My images"
FOLDER_HELP = (
    "The path of a folder on this computer with one folder of images for each class, or with `train` and `test` "
    "folders that hold those. A `manifest.csv` with the columns `file` and `group` keeps a patient's images together. "
    "Or the path of a table (CSV, TSV, Parquet) with the columns `path` and `label`, and `split` and `patient_id` "
    "where you have them."
)
LEAKAGE = {
    "report": "Say it and go on",
    "drop": "Leave them out of training",
    "refuse": "Refuse the dataset",
}


def choose() -> dict[str, Any]:
    """Draw the widgets; the settings of the dataset, its source empty while no folder is given."""
    kind = st.segmented_control(
        "Kind of images",
        [PHANTOM, MEDMNIST, RECIPE, FOLDER],
        default=PHANTOM,
        required=True,
        key="set_kind",
        label_visibility="collapsed",
    )
    if kind == FOLDER:
        place = st.text_input("Folder or table", key="set_folder", placeholder="/home/me/images", help=FOLDER_HELP)
        return {"source": place.strip(), **_reading()}
    if kind == RECIPE:
        return {"source": _recipe(), **_reading()}
    wanted = "phantom" if kind == PHANTOM else "medmnist"
    titles = _titles(wanted)
    source = st.selectbox(
        "Dataset",
        list(titles),
        format_func=lambda source: f"{titles[source]} ({source})" if source in titles else source,
        key=f"set_{wanted}",
        accept_new_options=True,
        help="Phantoms are drawn by this program: no patient. Type `phantom:fundus?n=90&size=64` for others."
        if kind == PHANTOM
        else "Public sets of medical images. The first use downloads one: that needs a network and `shpeft[medmnist]`. "
        "Type `medmnist:breastmnist@64` for another size.",
    )
    return {"source": source}


def _titles(kind: str) -> dict[str, str]:
    return {entry["source"]: entry["title"] for entry in known_sources() if entry["kind"] == kind}


def _recipe() -> str:
    """A public set and the folder of its unpacked download; nothing while no folder is given."""
    titles = _titles("recipe")
    source = st.selectbox(
        "Public set",
        list(titles),
        format_func=titles.__getitem__,
        key="set_recipe",
        help="Sets that you download yourself, from the page below and under its terms.",
    )
    recipe = recipe_of(source)
    with st.expander("Where to get it, its licence, and what is known of it"):
        st.text(recipe.explain())
    place = st.text_input(
        "Folder of the unpacked download",
        key="set_recipe_folder",
        placeholder=f"/home/me/{recipe.name}",
        help="Its path on this computer. What is expected in it is listed above.",
    ).strip()
    return place and f"{source}={place}"


def _reading() -> dict[str, Any]:
    """How files are read and split."""
    found = {
        "window": st.selectbox(
            "Window of 16-bit and DICOM images",
            ["auto", "full", *CT_WINDOWS],
            key="set_window",
            accept_new_options=True,
            help="Which values are told apart. *auto* is what a DICOM file itself asks for, *full* its whole range; "
            "the others are windows of computed tomography. Type `-160:240` for your own, in the file's units. Colours "
            "of 16 bits have one window for all channels. Images of 8 bits are shown as they are.",
        )
    }
    left, right = st.columns(2)
    found["val_fraction"] = left.number_input(
        "Share for validation",
        0.05,
        0.5,
        DEFAULT.val_fraction,
        0.05,
        key="set_val",
        help="Training images put aside to choose the best epoch; not used where the folder has `val`.",
    )
    found["test_fraction"] = right.number_input(
        "Share for the test",
        0.05,
        0.5,
        DEFAULT.test_fraction,
        0.05,
        key="set_test",
        help="Images that the model never sees before the end; not used where the folder has `test`.",
    )
    found["on_unreadable"] = left.selectbox(
        "Damaged images",
        ["skip", "refuse"],
        key="set_damaged",
        format_func={"skip": "Name and leave out", "refuse": "Refuse the dataset"}.get,
    )
    found["leakage"] = right.selectbox(
        "Images or patients in both training and test",
        list(LEAKAGE),
        key="set_leakage",
        format_func=LEAKAGE.get,
        help="Where the folder has its own splits: the same image, another image of the same patient, or one that "
        "looks the same, on both sides makes the test look better than it is. Leaving out keeps the test as it is.",
    )
    found["cache"] = st.toggle(
        "Keep resized images for the next time",
        DEFAULT.cache,
        key="set_kept",
        help="Saves reading and resizing every image again. What is kept derives from your images and stays on this "
        "computer, readable by you alone, without names.",
    )
    with shared.boundary():
        datacard.kept()
    return found

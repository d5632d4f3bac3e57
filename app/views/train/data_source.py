"""Step 1 of a new run: its images, dropped on the page, in a folder of this computer, or a set for trials."""

from typing import Any

import streamlit as st

from app.views.train.setting_widgets import about, advanced_paths, draw_all
from app.widgets import dataset_card, layout, uploads
from app.widgets.folder_browser import choose_path
from shpeft.config import RunConfig
from shpeft.datasets import known_sources, recipe_of
from shpeft.images import CT_WINDOWS
from shpeft.support.markdown import plain

DROP, FOLDER, PHANTOM, MEDMNIST, RECIPE = "Drop my images", "Folder", "Drawn images", "MedMNIST", "Public set"
FOLDER_HELP = (
    "A folder with one folder of images per class, or with `train` and `test` folders that contain these. A "
    "`manifest.csv` with the columns `file` and `group` keeps a patient's images together. Or a table (CSV, TSV, "
    "Parquet) with the columns `path` and `label`, and optionally `split` and `patient_id`."
)
MOST_CLASSES = 12


def choose() -> str:
    """Draw the widgets; return the source of the images, empty until there is one."""
    kind = st.segmented_control(
        "Where the images are",
        [DROP, FOLDER, PHANTOM, MEDMNIST, RECIPE],
        default=DROP,
        required=True,
        key="set_kind",
        persist_state="session",
        label_visibility="collapsed",
    )
    if kind == DROP:
        return _dropped()
    if kind == FOLDER:
        return choose_path("Folder or table", "set_folder", "dataset", help=FOLDER_HELP, placeholder="/home/me/images")
    if kind == RECIPE:
        return _recipe()
    family = "phantom" if kind == PHANTOM else "medmnist"
    titles = {entry["source"]: entry["title"] for entry in known_sources() if entry["kind"] == family}
    return st.selectbox(
        "Dataset",
        list(titles),
        format_func=lambda source: f"{titles[source]} ({source})" if source in titles else source,
        key=f"set_{family}",
        persist_state="session",
        accept_new_options=True,
        help="Drawn by this program, of no patient. Type `phantom:fundus?n=90&size=64` for others."
        if kind == PHANTOM
        else "Public medical images. The first use downloads a dataset, which needs a network and `shpeft[medmnist]`. "
        "Type `medmnist:breastmnist@64` for another size.",
    )


def _dropped() -> str:
    """Draw the zones for files; return the folder in which they are stored, or an empty text."""
    if stored := st.session_state.get("dropped"):
        with st.container(horizontal=True, vertical_alignment="center"):
            where = f"Stored in a private folder of {plain(layout.computer())}, and deleted with the run."
            st.caption(where, width="content")
            if st.button("Other images", icon=":material/close:"):
                del st.session_state["dropped"]
                st.rerun()
        return str(stored)
    left, right = st.columns(2)
    with left:
        files = uploads.drop("A folder with a folder per class", "folder", "folder", help=FOLDER_HELP)
    with right:
        files = files or uploads.drop("Or the same as a zip", "zip", "zip", help=FOLDER_HELP)
    named = [(file.name, file) for file in files] or _zones()
    if named and (path := uploads.store(named)):
        st.session_state["dropped"] = path
        st.rerun()
    return ""


def _zones() -> list[tuple[str, Any]]:
    """Draw a zone for each class; return the files of all classes with their class as folder, once all are there."""
    with st.expander("Or one zone per class"):
        zones: dict[str, list[Any]] = st.session_state.setdefault("zones", {})
        number = st.number_input("Classes", 2, MOST_CLASSES, 2, key="set_zones", persist_state="session")
        columns = st.columns(min(int(number), 3))
        names = []
        for position in range(int(number)):
            with columns[position % len(columns)]:
                name = st.text_input(
                    f"Class {position + 1}",
                    f"class {position + 1}",
                    key=f"set_zone_{position}",
                    persist_state="session",
                ).strip()
                names.append(name)
                if files := uploads.drop(f"Images of {plain(name)}", f"zone-{position}", "images"):
                    zones.setdefault(str(position), []).extend(files)
                    st.rerun()
                st.caption(f"{len(zones.get(str(position), ())):,} images")
        complete = all(zones.get(str(position)) for position in range(int(number)))
        distinct = len(set(names)) == len(names) and all(names)
        if not distinct:
            st.error("Give every class a name of its own.", icon=":material/error:")
        if st.button("Use these images", disabled=not (complete and distinct)):
            return [
                (f"{name}/{count}_{file.name}", file)
                for position, name in enumerate(names)
                for count, file in enumerate(zones.pop(str(position)))
            ]
    return []


def _recipe() -> str:
    """Draw a public dataset and the folder of its unpacked download; return an empty text until a folder is given."""
    titles = {entry["source"]: entry["title"] for entry in known_sources() if entry["kind"] == "recipe"}
    source = st.selectbox(
        "Public set",
        list(titles),
        format_func=titles.__getitem__,
        key="set_recipe",
        persist_state="session",
        help="Datasets that you download yourself, from the page below and under its terms.",
    )
    recipe = recipe_of(source)
    assert recipe is not None  # the box lists recipes alone
    with st.expander("Where to get it, its license and its known problems"):
        st.text(recipe.explain())
    folder = choose_path(
        "Folder of the unpacked download",
        "set_recipe_folder",
        "folder",
        help=f"Its path on {plain(layout.computer())}. The expected contents are listed above.",
        placeholder=f"/home/me/{recipe.name}",
    )
    return folder and f"{source}={folder}"


def reading() -> dict[str, Any]:
    """Draw how files are read and split."""
    if st.session_state.get("set_kind") in (PHANTOM, MEDMNIST):
        defaults = RunConfig().dataset.model_dump()
        return {name.rpartition(".")[2]: defaults[name.rpartition(".")[2]] for name in advanced_paths("dataset")}
    windows = dict(about("dataset.window").choices) | {name: name for name in CT_WINDOWS}
    values = draw_all(advanced_paths("dataset"), window=windows)
    with layout.error_boundary():
        dataset_card.cache_usage()
    return values

"""The image viewer: a component in plain JavaScript that keeps every pixel and does all its work in the browser.

Its message: four bytes with the length of a JSON header, the header, the image's values as stored in the file, and a
saliency map of one byte per value. The scripts are joined in the order of :data:`SCRIPTS`.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from shpeft.diagnosis import CAPTION
from shpeft.explanation.saliency import HUE, Saliency, to_uint8
from shpeft.images import CT_WINDOWS, Pixels, View

FOLDER = Path(__file__).parent
SCRIPTS = ("gray.js", "stage.js", "marks.js", "pointer.js", "slices.js", "viewer.js")
KEY = "viewer"

CT_PRESETS = {
    "lung": "lung",
    "bone": "bone",
    "mediastinum": "soft tissue",
    "liver": "liver",
    "brain": "brain",
    "subdural": "subdural",
    "stroke": "stroke",
}
"""CT windows offered, with their names on the page."""

_component = st.components.v2.component(
    "shpeft_viewer",
    html=(FOLDER / "viewer.html").read_text(encoding="utf-8"),
    css=(FOLDER / "viewer.css").read_text(encoding="utf-8"),
    js="\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def selected_frame(image_id: str, key: str = KEY) -> int | None:
    """Return the frame of this image that the reader chose, counted from 0; None if they have not chosen one."""
    selected = st.session_state.get(key, {}).get("frame") or {}
    return int(selected["frame"]) if selected.get("image") == image_id else None


def image_viewer(message: bytes, key: str = KEY) -> None:
    """Draw the viewer. Choosing another frame reruns the page, or the fragment.

    Args:
        message: see :func:`viewer_message`.
        key: tells several viewers of a page apart.
    """
    _component(key=key, data=message, on_frame_change=lambda: None)


def viewer_message(
    pixels: Pixels,
    image_id: str,
    saliency: Saliency | None = None,
    target: str = "",
    *,
    slices: str = "",
    linked: bool = False,
) -> bytes:
    """Pack the message that the browser gets.

    Args:
        image_id: opaque; zoom and window stay as long as it is the same.
        saliency: the map of this frame, drawn over the image.
        target: the class whose score the map explains.
        slices: the address of the frames, see :mod:`app.slices`; empty: the page is asked for another one.
        linked: scroll together with the page's other linked viewers, by as many frames.
    """
    kind, values = pixels.little_endian()
    header = {
        "image": image_id,
        "height": pixels.values.shape[0],
        "width": pixels.values.shape[1],
        "channels": 3 if pixels.is_color else 1,
        "type": kind,
        "slope": pixels.slope,
        "intercept": pixels.intercept,
        "blank": pixels.blank,
        "inverted": pixels.inverted,
        "unit": "HU" if pixels.hounsfield else "",
        "views": [{"name": name, **_view(view)} for name, view in window_presets(pixels)],
        "frame": pixels.frame,
        "frames": pixels.frames,
        "spacing": pixels.facts.spacing,
        "detector": pixels.facts.at_detector,
        "edges": pixels.facts.edges,
        "map": None,
        "slices": slices,
        "linked": linked,
    }
    layer = b""
    if saliency is not None:
        layer = to_uint8(saliency.map).tobytes()
        rows, columns = saliency.map.shape
        caption = f"{CAPTION} The stronger the blue, the more the score for {target} depends on those pixels."
        name = f"{saliency.method}/{target}"
        header["map"] = {"height": rows, "width": columns, "color": HUE, "caption": caption, "name": name}
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, values, layer])


def window_presets(pixels: Pixels) -> Sequence[tuple[str, View]]:
    """Return the windows offered for the image with their names; first the one that the model gets."""
    named = [("As the model sees it", pixels.view)]
    file_views = pixels.file_views
    several = len(file_views) > 1
    named += [(f"From the file, {n}" if several else "From the file", view) for n, view in enumerate(file_views, 1)]
    if pixels.hounsfield:
        named += [(f"CT {title}", View(*CT_WINDOWS[name])) for name, title in CT_PRESETS.items()]
    return [*named, ("All values", pixels.full_range)]


def _view(view: View) -> dict[str, object]:
    table = view.table
    return {
        "low": view.low,
        "high": view.high,
        "integers": view.integers,
        "sigmoid": view.sigmoid,
        "table": None if table is None else {"first": table.first, "entries": table.entries.tolist()},
    }

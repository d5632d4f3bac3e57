"""The image viewer: a component of plain JavaScript that keeps every pixel and does all its work in the browser.

What it is given: four bytes with the length of a JSON header, the header, the image's values as they are in the file,
and a saliency map of one byte a value. The scripts are joined in the order of :data:`SCRIPTS`.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from shpeft.diagnosis import CAPTION
from shpeft.images import CT_WINDOWS, Pixels, View
from shpeft.saliency import HUE, Saliency, levels

HERE = Path(__file__).parent
SCRIPTS = ("grey.js", "stage.js", "viewer.js")
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
"""Of the usual windows of computed tomography those that are offered, as the page calls them."""

_component = st.components.v2.component(
    "shpeft_viewer",
    html=(HERE / "viewer.html").read_text(encoding="utf-8"),
    css=(HERE / "viewer.css").read_text(encoding="utf-8"),
    js="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def frame_wanted(image_id: str) -> int | None:
    """The frame of this image that the reader went to, counted from 0; None before that."""
    wanted = st.session_state.get(KEY, {}).get("frame") or {}
    return int(wanted["frame"]) if wanted.get("image") == image_id else None


def show(pixels: Pixels, image_id: str, saliency: Saliency | None = None, target: str = "") -> None:
    """Draw the viewer. Going to another frame draws the page, or the fragment, again.

    Args:
        image_id: opaque; the zoom and the window stay while it does.
        saliency: of this frame, laid over the image.
        target: the class whose score the map explains.
    """
    _component(key=KEY, data=packed(pixels, image_id, saliency, target), on_frame_change=lambda: None)


def packed(pixels: Pixels, image_id: str, saliency: Saliency | None = None, target: str = "") -> bytes:
    """What the browser is given."""
    kind, values = pixels.little_endian()
    header = {
        "image": image_id,
        "height": pixels.values.shape[0],
        "width": pixels.values.shape[1],
        "channels": 3 if pixels.colour else 1,
        "type": kind,
        "slope": pixels.slope,
        "intercept": pixels.intercept,
        "blank": pixels.blank,
        "inverted": pixels.inverted,
        "unit": "HU" if pixels.hounsfield else "",
        "views": [{"name": name, **_view(view)} for name, view in presets(pixels)],
        "frame": pixels.frame,
        "frames": pixels.frames,
        "map": None,
    }
    layer = b""
    if saliency is not None:
        layer = levels(saliency.map).tobytes()
        side = len(saliency.map)
        words = f"{CAPTION} The stronger the blue, the more the score for {target} depends on the pixels there."
        header["map"] = {"side": side, "colour": HUE, "caption": words, "name": f"{saliency.method}/{target}"}
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<I", len(text)), text, values, layer])


def presets(pixels: Pixels) -> Sequence[tuple[str, View]]:
    """The ways to show the image, each with its name: first the one that the model is shown."""
    named = [("As the model sees it", pixels.view)]
    several = len(pixels.filed) > 1
    named += [(f"From the file, {n}" if several else "From the file", view) for n, view in enumerate(pixels.filed, 1)]
    if pixels.hounsfield:
        named += [(f"CT {title}", View(*CT_WINDOWS[name])) for name, title in CT_PRESETS.items()]
    return [*named, ("All values", pixels.whole)]


def _view(view: View) -> dict[str, object]:
    table = view.table
    return {
        "low": view.low,
        "high": view.high,
        "integers": view.integers,
        "sigmoid": view.sigmoid,
        "table": None if table is None else {"first": table.first, "entries": table.entries.tolist()},
    }

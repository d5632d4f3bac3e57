"""Images on a page with every pixel that they have: ``st.image`` would shrink them and make JPEGs of them."""

import base64
import html
import io

import streamlit as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shpeft import NOTICE

SMALL = 512
"""Pixels of width below which a magnified image shows its pixels as squares instead of inventing some in between."""


def png(image: Image.Image) -> bytes:
    """The image as a PNG file, without loss; the notice goes with it."""
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", NOTICE)
    image.save(buffer, "PNG", compress_level=1, pnginfo=info)
    return buffer.getvalue()


def tag(image: Image.Image, words: str, style: str) -> str:
    """An ``img`` element that carries its pixels in itself."""
    data = base64.b64encode(png(image)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(words)}" style="{style}">'


def scan(image: Image.Image, words: str, actual_size: bool = False) -> None:
    """Show one image large, or one image pixel to one CSS pixel in a frame that scrolls.

    Args:
        words: what the image is, for those who do not see it.
    """
    if actual_size:
        style = "max-width:none;image-rendering:pixelated"
    else:
        rendering = "pixelated" if image.width < SMALL else "auto"
        style = f"width:100%;max-height:60vh;object-fit:contain;object-position:left top;image-rendering:{rendering}"
    st.html(f'<div style="overflow:auto;max-height:62vh">{tag(image, words, style)}</div>')


def strip(images: dict[str, Image.Image], what: str) -> None:
    """Small images side by side, each with its name below; ``what`` they are, for those who do not see them."""
    style = "width:112px;height:112px;object-fit:contain;border-radius:4px;display:block"
    cells = [
        f'<figure style="margin:0">{tag(image, f"{what} {words}", style)}'
        f'<figcaption style="font-size:.85rem;max-width:112px;overflow-wrap:anywhere">{html.escape(words)}</figcaption>'
        "</figure>"
        for words, image in images.items()
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(cells)}</div>')

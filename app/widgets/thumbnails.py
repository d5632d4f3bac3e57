"""Lossless small images on a page; ``st.image`` would turn them into JPEGs."""

import base64
import html
import io

import streamlit as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shpeft import NOTICE


def png_bytes(image: Image.Image) -> bytes:
    """Encode the image as PNG, with the notice as a comment."""
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", NOTICE)
    image.save(buffer, "PNG", compress_level=1, pnginfo=info)
    return buffer.getvalue()


def img_tag(image: Image.Image, alt: str, style: str) -> str:
    """Return an ``img`` element with the pixels inside it."""
    data = base64.b64encode(png_bytes(image)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="{style}">'


def image_row(images: dict[str, Image.Image], alt: str) -> None:
    """Draw small images side by side, each above its name; ``alt`` and the name are its alternative text."""
    style = "width:112px;height:112px;object-fit:contain;border-radius:4px;display:block"
    cells = [
        f'<figure style="margin:0">{img_tag(image, f"{alt} {name}", style)}'
        f'<figcaption style="font-size:.85rem;max-width:112px;overflow-wrap:anywhere">{html.escape(name)}</figcaption>'
        "</figure>"
        for name, image in images.items()
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(cells)}</div>')


def image_rows(rows: dict[str, list[Image.Image]], alt: str) -> None:
    """Draw a block of small images for each name, the name above it."""
    style = "width:72px;height:72px;object-fit:cover;border-radius:4px;display:block"
    blocks = []
    for name, images in rows.items():
        tags = "".join(img_tag(small(image), f"{alt} {name}", style) for image in images)
        blocks.append(
            f'<figure style="margin:0"><figcaption style="font-size:.9rem">{html.escape(name)}</figcaption>'
            f'<div style="display:flex;flex-wrap:wrap;gap:4px">{tags}</div></figure>'
        )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:12px 24px">{"".join(blocks)}</div>')


def small(image: Image.Image, side: int = 144) -> Image.Image:
    """Return a copy that fits into a square of ``side`` pixels."""
    copy = image.copy()
    copy.thumbnail((side, side))
    return copy

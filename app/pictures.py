"""Small images on a page, and images as files, without loss: ``st.image`` would make JPEGs of them."""

import base64
import html
import io

import streamlit as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shpeft import NOTICE


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

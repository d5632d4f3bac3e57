"""Save figures for print: SVG, PDF or PNG of a width in millimeters, with the alternative text; else as HTML pages.

plotly draws in a browser only, so images need Playwright and a Chromium (``pip install 'shpeft[pdf]'``). In the app,
*Save as* needs them on its computer, too; the button in a chart's corner needs neither, as the reader's browser draws.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from shpeft.errors import ConfigError, ShpeftError, did_you_mean
from shpeft.figures.theme import FONT, GRAY, alt_text
from shpeft.support.atomic_files import write_atomic
from shpeft.support.headless_browser import run_in_browser

if TYPE_CHECKING:
    from shpeft.support.headless_browser import Page

Format = Literal["svg", "pdf", "png"]
FORMATS: tuple[Format, ...] = ("svg", "pdf", "png")

WIDTH = 900
"""Width in CSS pixels that a figure is drawn at, whatever its width on paper."""

INK = "#1a1a1a"
"""Color of text on paper; on the page, it follows the theme."""

DOTS_PER_INCH, MM_PER_INCH, CSS_PER_INCH = 300, 25.4, 96

STEADY = "let seed = 1; Math.random = () => (seed = (seed * 16807) % 2147483647) / 2147483647"
"""plotly.js draws random ids; a seeded Lehmer generator makes the file of a figure reproducible."""


def save(
    figures: Mapping[str, go.Figure],
    folder: str | Path,
    formats: Sequence[Format] = ("svg",),
    *,
    width_mm: float | None = None,
    font: str = FONT,
) -> dict[str, Path]:
    """Write figures into a folder and return the path of each, in the first format; the folder is created.

    Without a browser they become HTML pages, which share one ``plotly.min.js`` in the folder and need no network.

    Args:
        figures: by file name, without a suffix.
        folder: of the files.
        formats: ``svg``, ``pdf``, ``png`` (300 dots per inch).
        width_mm: width on paper, such as 85 for one column or 170 for two; the height follows. None: 238 mm. Text
            has 9.75 points at 238 mm and shrinks in proportion, at most by half: narrower figures are drawn narrower.
        font: a font family, or several in the order of preference.

    Raises:
        ConfigError: an unknown format, or a width of less than 20 mm.
    """
    _check(formats, width_mm)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    images = _render(figures, formats, width_mm, font)
    for name, new_figure in figures.items():
        if name in images:
            for suffix, data in images[name].items():
                write_atomic(folder / f"{name}.{suffix}", data)
            (folder / f"{name}.html").unlink(missing_ok=True)
        else:
            new_figure.write_html(folder / f"{name}.html", include_plotlyjs="directory", default_width=WIDTH)
    return {name: folder / f"{name}.{formats[0] if name in images else 'html'}" for name in figures}


def images(
    figures: Mapping[str, go.Figure], format: Format = "svg", *, width_mm: float | None = None, font: str = FONT
) -> dict[str, bytes]:
    """Return figures as images in memory, by their names; see :func:`save`.

    Raises:
        ConfigError: an unknown format, or a width of less than 20 mm.
        MissingExtra: there is no browser to draw with.
        ShpeftError: the browser failed.
    """
    _check((format,), width_mm)
    drawn = _drawn(figures, (format,), width_mm, font)
    return {
        name: data if isinstance(data := formats[format], bytes) else data.encode() for name, formats in drawn.items()
    }


def _check(formats: Sequence[str], width_mm: float | None) -> None:
    for format in formats:
        if format not in FORMATS:
            raise ConfigError(f"There is no figure format {format!r}. {did_you_mean(format, FORMATS)}")
    if width_mm is not None and not width_mm >= 20:
        raise ConfigError(f"A figure's width must be at least 20 mm; {width_mm:g} is given.")


def _render(
    figures: Mapping[str, go.Figure], formats: Sequence[Format], width_mm: float | None, font: str
) -> dict[str, dict[str, str | bytes]]:
    """Render the figures in a headless browser; empty if there is none, or if it fails."""
    try:
        return _drawn(figures, formats, width_mm, font)
    except ShpeftError:
        return {}


def _drawn(
    figures: Mapping[str, go.Figure], formats: Sequence[Format], width_mm: float | None, font: str
) -> dict[str, dict[str, str | bytes]]:
    """Render the figures in a headless browser."""

    def draw(page: "Page") -> dict[str, dict[str, str | bytes]]:
        page.add_script_tag(content=STEADY)
        page.add_script_tag(content=get_plotlyjs())
        svgs = {name: _svg(page, new_figure, width_mm, font) for name, new_figure in figures.items()}
        return {name: {format: _as(page, format, *svg) for format in formats} for name, svg in svgs.items()}

    return run_in_browser(draw)


def _svg(page: "Page", new_figure: go.Figure, width_mm: float | None, font: str) -> tuple[str, float, float]:
    """Return a figure as SVG with its alternative text, and its width and height on paper in CSS pixels."""
    height = new_figure.layout.height or 450
    on_paper = WIDTH if width_mm is None else width_mm * CSS_PER_INCH / MM_PER_INCH
    width = min(WIDTH, max(WIDTH / 2, on_paper)) if width_mm is not None else WIDTH
    drawn = go.Figure(new_figure)
    drawn.update_layout(font={"family": font, "color": INK if width_mm is not None else GRAY})
    options = {"format": "svg", "width": width, "height": height}
    drawing = "([figure, options]) => Plotly.toImage(figure, options)"
    address: str = page.evaluate(drawing, [json.loads(drawn.to_json()), options])
    svg = unquote(address.partition(",")[2])
    opening, rest = svg.split(">", 1)
    text = html.escape(alt_text(new_figure))
    scale = on_paper / width
    if width_mm is not None:
        opening = opening.replace(f'width="{width:g}"', f'width="{width_mm:g}mm"', 1)
        opening = opening.replace(
            f'height="{height:g}"', f'height="{height * scale * MM_PER_INCH / CSS_PER_INCH:.2f}mm"', 1
        )
    labeled = f'{opening} role="img" aria-label="{text}"><title>{text}</title>{rest}'
    return labeled, on_paper, height * scale


def _as(page: "Page", format: Format, svg: str, width: float, height: float) -> str | bytes:
    """Return an SVG in a format: itself, a PDF of one page of its size, or a PNG at 300 dots per inch."""
    if format == "svg":
        return svg
    picture = base64.b64encode(svg.encode()).decode()
    scale = DOTS_PER_INCH / CSS_PER_INCH if format == "png" else 1
    page.set_viewport_size({"width": round(width * scale), "height": round(height * scale)})
    page.set_content(
        "<style>* {margin: 0} img {display: block} @page {margin: 0}</style>"
        f'<img src="data:image/svg+xml;base64,{picture}" style="width:{width * scale}px;height:{height * scale}px">'
    )
    page.wait_for_function("() => document.images[0].complete")
    if format == "pdf":
        return page.pdf(width=f"{width}px", height=f"{height + 1}px", page_ranges="1", print_background=True)
    return page.screenshot(omit_background=True)

"""Figures on paper: their width in millimeters, their fonts and their alternative text."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shpeft import figures
from shpeft.errors import ConfigError, MissingExtra
from shpeft.support.headless_browser import unavailable_reason

needs_browser = pytest.mark.skipif(bool(unavailable_reason()), reason="no Chromium")


@needs_browser
def test_a_figure_has_its_width_in_every_format_and_its_alternative_text(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    drawn = figures.mean_ranks(["an <arm>"], [1.0])
    paths = figures.save({"ranks": drawn}, tmp_path, ("svg", "pdf", "png"), width_mm=85, font="Georgia, serif")
    assert paths == {"ranks": tmp_path / "ranks.svg"}
    svg = paths["ranks"].read_text()
    assert svg.startswith("<svg")
    assert 'width="85mm"' in svg
    assert "Georgia" in svg
    assert "rgb(26, 26, 26)" in svg
    title = re.search("<title>(.*?)</title>", svg)
    assert title is not None
    assert title[1].replace("&lt;", "<").replace("&gt;", ">") == figures.alt_text(drawn)
    assert 'role="img"' in svg
    (page,) = pypdf.PdfReader(tmp_path / "ranks.pdf").pages
    assert float(page.mediabox.width) / 72 * 25.4 == pytest.approx(85, abs=0.5)
    with Image.open(tmp_path / "ranks.png") as png:
        assert png.width / 300 * 25.4 == pytest.approx(85, abs=0.2)


@needs_browser
def test_the_first_format_is_returned(tmp_path: Path) -> None:
    drawn = figures.mean_ranks(["an arm"], [1.0])
    paths = figures.save({"ranks": drawn}, tmp_path, ("png",))
    assert paths == {"ranks": tmp_path / "ranks.png"}
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.png"]


def test_without_a_browser_figures_are_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtra("no browser")

    monkeypatch.setattr(sys.modules["shpeft.figures.save"], "run_in_browser", missing)
    paths = figures.save({"ranks": figures.mean_ranks(["an arm"], [1.0])}, tmp_path, ("pdf",))
    assert paths == {"ranks": tmp_path / "ranks.html"}


def test_unknown_formats_and_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no figure format 'svgz'.*svg"):
        figures.save({}, tmp_path / "new", ("svgz",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 20 mm; 5 is given"):
        figures.save({}, tmp_path / "new", width_mm=5)
    assert not (tmp_path / "new").exists()


@needs_browser
@pytest.mark.parametrize(("format", "begins"), [("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_images_in_memory_are_those_of_the_files(tmp_path: Path, format: Any, begins: bytes) -> None:
    drawn = {"ranks": figures.mean_ranks(["an arm"], [1.0])}
    image = figures.images(drawn, format, width_mm=85)["ranks"]
    assert image.startswith(begins)
    if format != "pdf":  # a PDF has the time
        figures.save(drawn, tmp_path, (format,), width_mm=85)
        assert image == (tmp_path / f"ranks.{format}").read_bytes()


def test_images_without_a_browser_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtra("no browser")

    monkeypatch.setattr(sys.modules["shpeft.figures.save"], "run_in_browser", missing)
    with pytest.raises(MissingExtra, match="no browser"):
        figures.images({"ranks": figures.mean_ranks(["an arm"], [1.0])})
    with pytest.raises(ConfigError, match="at least 20 mm"):
        figures.images({}, width_mm=5)

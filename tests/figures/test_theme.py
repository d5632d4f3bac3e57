"""Colors of the figures: enough contrast on either background, and distinct with every color vision."""

from itertools import combinations

import numpy as np
import pytest
from plotly.colors import hex_to_rgb

from shpeft.figures.theme import BLUE, GRAY, GREEN, ORANGE


def luminance(color: str) -> float:
    """Return the relative luminance as WCAG 2 defines it."""
    parts = [c / 255 for c in hex_to_rgb(color)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@pytest.mark.parametrize("color", [BLUE, ORANGE, GREEN, GRAY])
@pytest.mark.parametrize("background", ["#ffffff", "#0e1117"])
def test_colors_have_enough_contrast_on_light_and_dark(color: str, background: str) -> None:
    high, low = sorted((luminance(color), luminance(background)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 3


DICHROMACY = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Matrices on linear RGB that simulate the three dichromacies (Machado, Oliveira and Fernandes 2009, severity 1)."""


def lab(color: str, simulation: np.ndarray) -> np.ndarray:
    """Return the CIELAB coordinates of a color under a simulated color vision."""
    part = np.array(hex_to_rgb(color)) / 255
    linear = np.clip(simulation @ np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = (np.array(to_xyz) @ linear) / [0.9505, 1, 1.089]
    fx, fy, fz = (np.cbrt(t) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("eyes", DICHROMACY)
def test_colors_are_distinct_with_every_color_vision(eyes: str) -> None:
    seen = [lab(color, np.array(DICHROMACY[eyes])) for color in (BLUE, ORANGE, GREEN, GRAY)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10  # ΔE; about 2 is just noticeable

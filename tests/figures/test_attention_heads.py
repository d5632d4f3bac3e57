"""Figures of single matrices and of several supports show the numbers that they are given."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from plotly.colors import sample_colorscale

from shpeft import figures
from shpeft.backbones import WeightInfo
from shpeft.figures.theme import SCALE, write_in_cells
from shpeft.importance import weight_grid
from shpeft.importance.attention_heads import HeadSummary
from shpeft.importance.weight_grid import count_in_grid
from shpeft.selection.overlap import BudgetOverlap
from shpeft.selection.set_overlap import Overlaps, overlaps
from shpeft.selection.top_k import Support

INFO = WeightInfo("blocks.0.attn.qkv.weight", (60, 20), 1200, 1, "blocks.0", "attn.qkv.weight")
SHAPES = {INFO.name: INFO.shape}


def support(*indices: int) -> Support:
    return Support({INFO.name: torch.tensor(sorted(indices))}, SHAPES, 1200)


@pytest.fixture(scope="module")
def result() -> Overlaps:
    """Three supports: 2 weights in all, and 1, 4, 5 or 6 in fewer."""
    return overlaps(
        {
            "fundus": support(1, 2, *range(10, 14), 20, *range(30, 36)),
            "chest": support(1, 2, *range(10, 14), *range(40, 45)),
            "skin": support(1, 2, 20, 50),
        },
        (INFO,),
    )


def test_heads_show_selected_weights_and_mean_scores() -> None:
    means = np.array([[1e-3, 2e-3], [3e-3, 4e-3], [5e-3, 6e-3]])
    split = HeadSummary(("query", "key", "value"), means, np.array([[0, 1], [2, 3], [4, 5]]), 200)
    chosen, scores = figures.selected_by_head(split), figures.score_by_head(split, "nats")
    assert np.array_equal(chosen.data[0].z, split.selected)
    assert list(chosen.data[0].y) == ["query", "key", "value"]
    assert chosen.layout.yaxis.range == (2.5, -0.5)  # queries on top
    assert "5 of 200 weights are selected" in chosen.data[0].hovertext[2][1]
    assert "would select 2.5" in chosen.data[0].hovertext[2][1]
    assert np.array_equal(scores.data[0].z, means)
    assert "nats" in scores.layout.xaxis.title.text


def test_grid_shows_every_selected_weight_at_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_grid, "BINS", 10)
    drawn = figures.selected_in_grid(count_in_grid(torch.tensor([0, 1, 1199]), INFO))
    cells = drawn.data[0]
    assert np.sum(cells.z) == 3
    assert (cells.z[0][0], cells.z[9][9]) == (2, 1)
    assert (cells.x[0], cells.y[0], cells.y[9]) == (0.5, 2.5, 56.5)
    assert cells.hovertext[9][9] == "rows 54 to 59, columns 18 to 19"
    assert drawn.layout.yaxis.autorange == "reversed"
    assert "No weight" in figures.selected_in_grid(count_in_grid(None, INFO)).layout.annotations[0].text


@pytest.mark.parametrize("measure", ["jaccard", "containment"])
def test_overlap_matrix_shows_chance(result: Overlaps, measure: Literal["jaccard", "containment"]) -> None:
    cells, *written = figures.overlap_matrix(result, measure).data
    pair = result.pairs["fundus", "chest"]
    assert pair.intersection == 6
    values = {"jaccard": (6 / 18, 6 / 18), "containment": (6 / 13, 6 / 11)}[measure]
    assert (cells.z[0][1], cells.z[1][0]) == pytest.approx(values)
    assert cells.z[0][0] is None
    assert "6 shared of 13 and 11" in cells.hovertext[0][1]
    chance = {"jaccard": pair.chance_jaccard, "containment": pair.chance / 13}[measure]
    texts = {(t.x[i], t.y[i]): text for t in written for i, text in enumerate(t.text)}
    assert texts[cells.x[1], cells.y[0]] == f"{values[0]:.3f}<br>chance {chance:.1g}"
    assert len(texts) == len(cells.x) * (len(cells.x) - 1)


def test_blocks_show_the_share_of_each_support(result: Overlaps) -> None:
    cells = figures.selected_by_block(result).data[0]
    shares = result.block_shares()
    for column, block in enumerate(cells.x):
        for row, size in enumerate(result.sizes):
            count = sum(layer.sizes[row] for layer in result.layers if layer.block == block)
            assert cells.z[row][column] == shares[block][row] == pytest.approx(count / size)
    assert [sum(row) for row in cells.z] == pytest.approx([1] * len(result.names))


def test_cell_texts_have_enough_contrast() -> None:
    part = np.linspace(0, 1, 101)
    drawn = go.Figure()
    write_in_cells(drawn, range(101), ["row"], [part.tolist()], [[f"{p:.2f}" for p in part]], top=1)
    written = {text: trace.textfont.color for trace in drawn.data for text in trace.text}
    assert len(written) == 101
    for behind in part:
        red, green, blue = (float(c) for c in sample_colorscale(SCALE, behind)[0][4:-1].split(","))
        back, ink = (_light(red, green, blue), _light(*bytes.fromhex(written[f"{behind:.2f}"][1:])))
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) > 4


def _light(*channels: float) -> float:
    """Return the relative luminance (WCAG 2) of RGB channels from 0 to 255."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_upset_draws_the_largest_and_sums_the_rest(result: Overlaps) -> None:
    drawn = figures.upset_plot(result, largest=3)
    bars, chance, *dots = drawn.data
    sizes = [i.size for i in result.intersections]
    assert list(bars.y) == [*sizes[:3], sum(sizes[3:])] == [6, 5, 4, 4]
    assert sum(bars.y) == 19
    assert list(chance.y) == pytest.approx(
        [*(i.chance for i in result.intersections[:3]), sum(i.chance for i in result.intersections[3:])]
    )
    assert [len(trace.y) for trace in dots] == [1, 1, 2]
    assert list(dots[2].y) == ["fundus (13)", "chest (11)"]
    assert list(drawn.layout.xaxis.ticktext) == ["3 smaller"]
    assert len(figures.upset_plot(result).data[0].y) == 6


def test_names_that_collide_when_shortened_are_not_shortened(result: Overlaps) -> None:
    long = ["a" * 20 + letter + "z" * 20 for letter in "bc"]
    several = overlaps({name: support(1, 2) for name in long}, (INFO,))
    assert list(figures.overlap_matrix(several).data[0].x) == long


def test_overlap_by_budget_shows_the_band_of_chance() -> None:
    points = [BudgetOverlap(10, 2, 0.1, 0, 1), BudgetOverlap(100, 30, 10.0, 5, 16)]
    high, low, mean, shared = figures.overlap_by_budget(points, 10).data
    assert list(shared.y) == [0.2, 0.3]
    assert list(mean.y) == [0.01, 0.1]
    assert (list(low.y), list(high.y)) == ([0.0, 0.05], [0.1, 0.16])
    assert "30 shared: 30 %" in shared.hovertext[1]

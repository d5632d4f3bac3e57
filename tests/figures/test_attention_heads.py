"""Figures of single matrices and of several supports: the numbers in them are the ones that were given."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from plotly.colors import sample_colorscale

from shpeft import figures, matrices
from shpeft.backbones import WeightInfo
from shpeft.figures.theme import SCALE, write_in_cells
from shpeft.matrices import HeadSplit, grid
from shpeft.overlaps import BudgetOverlap, overlaps
from shpeft.selection import Support

INFO = WeightInfo("blocks.0.attn.qkv.weight", (60, 20), 1200, 1, "blocks.0", "attn.qkv.weight")
SHAPES = {INFO.name: INFO.shape}


def support(*places: int) -> Support:
    return Support({INFO.name: torch.tensor(sorted(places))}, SHAPES, 1200)


@pytest.fixture(scope="module")
def found():
    """Three supports: 2 weights in all, and 1, 4, 5 or 6 in fewer."""
    return overlaps(
        {
            "fundus": support(1, 2, *range(10, 14), 20, *range(30, 36)),
            "chest": support(1, 2, *range(10, 14), *range(40, 45)),
            "skin": support(1, 2, 20, 50),
        },
        (INFO,),
    )


def test_heads_show_choices_and_mean_scores():
    means = np.array([[1e-3, 2e-3], [3e-3, 4e-3], [5e-3, 6e-3]])
    split = HeadSplit(("query", "key", "value"), means, np.array([[0, 1], [2, 3], [4, 5]]), 200)
    chosen, scores = figures.selected_by_head(split), figures.score_by_head(split, "nats")
    assert np.array_equal(chosen.data[0].z, split.chosen)
    assert list(chosen.data[0].y) == ["query", "key", "value"]
    assert chosen.layout.yaxis.range == (2.5, -0.5)  # queries on top
    assert "5 of 200 weights are selected" in chosen.data[0].hovertext[2][1]
    assert "would select 2.5" in chosen.data[0].hovertext[2][1]
    assert np.array_equal(scores.data[0].z, means)
    assert "nats" in scores.layout.xaxis.title.text


def test_the_grid_shows_every_selected_weight_at_its_place(monkeypatch):
    monkeypatch.setattr(matrices, "BINS", 10)
    drawn = figures.selected_in_grid(grid(torch.tensor([0, 1, 1199]), INFO))
    cells = drawn.data[0]
    assert np.sum(cells.z) == 3
    assert (cells.z[0][0], cells.z[9][9]) == (2, 1)
    assert (cells.x[0], cells.y[0], cells.y[9]) == (0.5, 2.5, 56.5)
    assert cells.hovertext[9][9] == "rows 54 to 59, columns 18 to 19"
    assert drawn.layout.yaxis.autorange == "reversed"
    assert "No weight" in figures.selected_in_grid(grid(None, INFO)).layout.annotations[0].text


@pytest.mark.parametrize("measure", ["jaccard", "containment"])
def test_the_matrix_of_pairs_stands_beside_chance(found, measure):
    cells, *written = figures.overlap_matrix(found, measure).data
    pair = found.pairs["fundus", "chest"]
    assert pair.intersection == 6
    values = {"jaccard": (6 / 18, 6 / 18), "containment": (6 / 13, 6 / 11)}[measure]
    assert (cells.z[0][1], cells.z[1][0]) == pytest.approx(values)
    assert cells.z[0][0] is None
    assert "6 shared of 13 and 11" in cells.hovertext[0][1]
    chance = {"jaccard": pair.chance_jaccard, "containment": pair.chance / 13}[measure]
    texts = {(t.x[i], t.y[i]): text for t in written for i, text in enumerate(t.text)}
    assert texts[cells.x[1], cells.y[0]] == f"{values[0]:.3f}<br>chance {chance:.1g}"
    assert len(texts) == len(cells.x) * (len(cells.x) - 1)


def test_words_in_cells_can_be_read():
    part = np.linspace(0, 1, 101)
    drawn = go.Figure()
    write_in_cells(drawn, range(101), ["row"], [part], [[f"{p:.2f}" for p in part]], top=1)
    written = {text: trace.textfont.color for trace in drawn.data for text in trace.text}
    assert len(written) == 101
    for behind in part:
        red, green, blue = (float(c) for c in sample_colorscale(SCALE, behind)[0][4:-1].split(","))
        back, ink = (_light(red, green, blue), _light(*bytes.fromhex(written[f"{behind:.2f}"][1:])))
        assert (max(back, ink) + 0.05) / (min(back, ink) + 0.05) > 4


def _light(*channels):
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_upset_draws_the_largest_and_sums_the_rest(found):
    drawn = figures.upset(found, largest=3)
    bars, chance, *dots = drawn.data
    sizes = [i.size for i in found.intersections]
    assert list(bars.y) == [*sizes[:3], sum(sizes[3:])] == [6, 5, 4, 4]
    assert sum(bars.y) == 19
    assert list(chance.y) == pytest.approx(
        [*(i.chance for i in found.intersections[:3]), sum(i.chance for i in found.intersections[3:])]
    )
    assert [len(trace.y) for trace in dots] == [1, 1, 2]
    assert list(dots[2].y) == ["fundus (13)", "chest (11)"]
    assert list(drawn.layout.xaxis.ticktext) == ["3 smaller"]
    assert len(figures.upset(found).data[0].y) == 6


def test_names_that_look_alike_when_cut_are_left_whole(found):
    long = ["a" * 20 + letter + "z" * 20 for letter in "bc"]
    several = overlaps({name: support(1, 2) for name in long}, (INFO,))
    assert list(figures.overlap_matrix(several).data[0].x) == long


def test_the_overlap_against_the_budget_lies_beside_the_band_of_chance():
    points = [BudgetOverlap(10, 2, 0.1, 0, 1), BudgetOverlap(100, 30, 10.0, 5, 16)]
    high, low, mean, shared = figures.overlap_against_budget(points, 10).data
    assert list(shared.y) == [0.2, 0.3]
    assert list(mean.y) == [0.01, 0.1]
    assert (list(low.y), list(high.y)) == ([0.0, 0.05], [0.1, 0.16])
    assert "30 shared: 30 %" in shared.hovertext[1]

"""Figures show the numbers that they are given."""

import math
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from shpeft import figures
from shpeft.diagnosis import Diagnosis
from shpeft.errors import ConfigError
from shpeft.explanation.attribution import LayerAttribution, StrengthCurve
from shpeft.figures.theme import BLUE, GRAY, ORANGE, alt_text, format_count, format_share
from shpeft.importance.layer_summaries import LayerSummary
from shpeft.selection.overlap import LayerOverlap, Overlap
from shpeft.training.loop import EpochReport


def summary(name: str, block: str, depth: int, mean: float, selected: int) -> LayerSummary:
    edges = tuple(-8 + i / 2 for i in range(17))
    counts = (5, 0, 0, 0, 0, 0, 0, 0, 10, 40, 30, 10, 5, 0, 0, 0)
    matrix = name.removeprefix(block + ".")
    quantiles = (1e-7, 1e-4, 2e-4, 4e-4, 1e-2)
    return LayerSummary(name, block, matrix, depth, 1000, selected, mean, 100 * mean, quantiles, counts, edges)


@pytest.fixture
def summaries() -> list[LayerSummary]:
    """Two blocks of which the second has no fc1; given deepest first."""
    return [
        summary("blocks.1.attn.qkv.weight", "blocks.1", 2, 1e-5, 0),
        summary("blocks.0.attn.qkv.weight", "blocks.0", 1, 1e-3, 12),
        summary("blocks.0.mlp.fc1.weight", "blocks.0", 1, 1e-4, 3),
    ]


@pytest.fixture
def agreement() -> Overlap:
    layers = (
        LayerOverlap("blocks.0.attn.qkv.weight", "blocks.0", "attn.qkv.weight", 4, 10, 20, 1000, 0.2, 0, 1),
        LayerOverlap("blocks.0.mlp.fc1.weight", "blocks.0", "mlp.fc1.weight", 0, 5, 8, 1000, 0.04, 0, 1),
        LayerOverlap("blocks.1.attn.qkv.weight", "blocks.1", "attn.qkv.weight", 0, 0, 7, 1000, 0.0, 0, 0),
    )
    return Overlap(4, 15, 35, 3000, 4 / 46, 4 / 15, 0.175, 0.004, 0, 1, 1e-5, 1.0, layers)


@pytest.fixture
def history() -> list[EpochReport]:
    bests = (True, True, False)
    return [EpochReport(e, 8, 1 / e, 1.2 / e, 0.7 + 0.05 * e, 0.6, 2.0 * e, bests[e - 1]) for e in (1, 2, 3)]


@pytest.fixture
def diagnosis() -> Diagnosis:
    return Diagnosis(("benign", "malignant", "normal"), (0.2, 0.7, 0.1), "malignant", "malignant", None, (9, 9))


@pytest.fixture
def parts() -> list[LayerAttribution]:
    """As the model has them: the second block has no fc1."""
    return [
        LayerAttribution("blocks.0.attn.qkv.weight", "blocks.0", "attn.qkv.weight", 1, 10, 0.25, 0.75),
        LayerAttribution("blocks.0.mlp.fc1.weight", "blocks.0", "mlp.fc1.weight", 1, 3, -0.5, 0.5),
        LayerAttribution("blocks.1.attn.qkv.weight", "blocks.1", "attn.qkv.weight", 2, 4, 0.125, 0.25),
    ]


@pytest.fixture
def curve() -> StrengthCurve:
    return StrengthCurve(("benign", "malignant"), (0.0, 0.5, 1.0), ((0.8, 0.2), (0.5, 0.5), (0.1, 0.9)))


@pytest.fixture
def drawn(
    summaries: list[LayerSummary],
    agreement: Overlap,
    history: list[EpochReport],
    diagnosis: Diagnosis,
    parts: list[LayerAttribution],
    curve: StrengthCurve,
) -> dict[str, go.Figure]:
    """Every figure that there is."""
    return {
        **{quantity: figures.importance_heatmap(summaries, quantity) for quantity in figures.QUANTITIES},
        "layer_histogram": figures.layer_histogram(summaries[0]),
        "density_by_depth": figures.density_by_depth(summaries),
        "overlap_counts": figures.overlap_counts(agreement),
        "overlap_bars": figures.overlap_bars(agreement),
        "training_curves": figures.training_curves(history),
        "probability_bars": figures.probability_bars(diagnosis),
        "attribution_heatmap": figures.attribution_heatmap(parts),
        "strength_curve": figures.strength_curve(curve, 0.5),
    }


def test_every_figure_has_template_units_hover_text_and_alt_text(drawn: dict[str, go.Figure]) -> None:
    for name, figure in drawn.items():
        assert figure.layout.template == figures.TEMPLATE, name
        assert figure.layout.height, name
        assert alt_text(figure), name
        for trace in figure.data:
            assert trace.hovertemplate or trace.hoverinfo == "skip", name
        # In heatmaps of the layers the color bar has the title, and both axes have names.
        if name not in (*figures.QUANTITIES, "attribution_heatmap"):
            values = [axis.title.text for axis in figure.select_xaxes()] + [a.title.text for a in figure.select_yaxes()]
            assert any(values), name


def test_figures_are_reproducible_and_serializable(
    summaries: list[LayerSummary],
    agreement: Overlap,
    history: list[EpochReport],
    diagnosis: Diagnosis,
    drawn: dict[str, go.Figure],
) -> None:
    again = figures.importance_heatmap(summaries, "mean")
    assert again.to_json() == drawn["mean"].to_json()
    assert figures.training_curves(history).to_json() == drawn["training_curves"].to_json()
    assert figures.overlap_bars(agreement).to_json() == drawn["overlap_bars"].to_json()
    assert figures.probability_bars(diagnosis).to_json() == drawn["probability_bars"].to_json()


def test_backgrounds_are_transparent_and_color_scales_are_safe(drawn: dict[str, go.Figure]) -> None:
    layout = figures.TEMPLATE.layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    for figure in drawn.values():
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.font.color is None  # the page's own theme may set it
    for quantity in figures.QUANTITIES:
        assert drawn[quantity].data[0].colorscale == go.Figure(go.Heatmap(colorscale="Cividis")).data[0].colorscale


def test_heatmap_has_blocks_by_depth_and_gaps_for_missing_matrices(
    summaries: list[LayerSummary], drawn: dict[str, go.Figure]
) -> None:
    figure = drawn["mean"]
    cells, _ = figure.data
    assert list(figure.layout.yaxis.categoryarray) == ["blocks.0", "blocks.1"]
    assert figure.layout.yaxis.range == (1.5, -0.5)  # the first block on top
    assert list(figure.layout.xaxis.categoryarray) == ["attn.qkv", "mlp.fc1"]
    shown = {(y, x): z for y, x, z in zip(cells.y, cells.x, cells.z, strict=True)}
    assert set(shown) == {("blocks.0", "attn.qkv"), ("blocks.0", "mlp.fc1"), ("blocks.1", "attn.qkv")}
    assert shown["blocks.0", "attn.qkv"] == pytest.approx(-3)
    assert shown["blocks.1", "attn.qkv"] == pytest.approx(-5)


def test_a_click_on_a_cell_names_its_parameter(drawn: dict[str, go.Figure]) -> None:
    for quantity in figures.QUANTITIES:
        cells, squares = drawn[quantity].data
        assert cells.hoverinfo == "skip"  # or the heatmap would catch the click and tell nothing
        assert squares.mode == "markers"
        assert 0 < squares.marker.opacity <= 0.02
        for x, y, (name,), text in zip(squares.x, squares.y, squares.customdata, squares.hovertext, strict=True):
            assert name == f"{y}.{x}.weight"
            assert name in text
    assert "12 of 1,000 weights are selected: 1.2 %" in squares.hovertext[0]


@pytest.mark.parametrize(("quantity", "expected"), [("selected", ["0", "1", "12"]), ("density", ["0 %", "1.2 %"])])
def test_color_bars_count_in_the_quantitys_own_unit(
    drawn: dict[str, go.Figure], quantity: str, expected: list[str]
) -> None:
    cells = drawn[quantity].data[0]
    labels = dict(zip(cells.colorbar.ticktext, cells.colorbar.tickvals, strict=True))
    assert set(expected) <= set(labels)
    assert labels[expected[0]] == min(cells.z) == 0
    assert labels[expected[-1]] == max(cells.z)


def test_a_heatmap_of_nothing_and_of_zeros_can_be_drawn(summaries: list[LayerSummary]) -> None:
    assert "No weights" in figures.importance_heatmap([]).layout.annotations[0].text
    zeros = [replace(s, mean=0.0, maximum=0.0, selected=0) for s in summaries]
    for quantity in figures.QUANTITIES:
        assert all(math.isfinite(z) for z in figures.importance_heatmap(zeros, quantity).data[0].z)


def test_unknown_quantity_is_refused(summaries: list[LayerSummary]) -> None:
    with pytest.raises(ConfigError, match=r"no quantity 'densty'.*density"):
        figures.importance_heatmap(summaries, "densty")


def test_the_histogram_shows_every_weight_and_the_median(
    summaries: list[LayerSummary], drawn: dict[str, go.Figure]
) -> None:
    figure = drawn["layer_histogram"]
    assert sum(figure.data[0].y) == sum(summaries[0].counts)
    assert figure.layout.shapes[0].x0 == pytest.approx(math.log10(2e-4))
    assert figure.layout.annotations[0].text == "median 0.0002"
    assert figure.layout.xaxis.range == (-8, -1.5)  # empty bins at the end are cut off
    assert figure.data[0].customdata[0].startswith("of at most")
    blank = replace(summaries[0], counts=(0,) * 16)
    assert "no scores" in figures.layer_histogram(blank).layout.annotations[0].text


def test_density_by_depth_adds_up_blocks_and_shows_the_even_spread(drawn: dict[str, go.Figure]) -> None:
    figure = drawn["density_by_depth"]
    assert list(figure.data[0].x) == ["blocks.0", "blocks.1"]
    assert list(figure.data[0].y) == pytest.approx([100 * 15 / 2000, 0])
    assert figure.layout.shapes[0].y0 == pytest.approx(100 * 15 / 3000)


def test_overlap_bars_show_chance_for_parameters_in_both_supports(
    agreement: Overlap, drawn: dict[str, go.Figure]
) -> None:
    bars, chance = drawn["overlap_bars"].data
    assert list(bars.y) == list(chance.y) == ["blocks.0.attn.qkv", "blocks.0.mlp.fc1"]
    assert list(bars.x) == [4, 0]
    assert list(chance.x) == [0.2, 0.04]
    assert "4 shared of 10 task-specific and 20 task-agnostic<br>0.2 by chance" in bars.hovertext[0]
    apart = replace(agreement, layers=agreement.layers[2:])
    assert "share none" in figures.overlap_bars(apart).layout.annotations[0].text


def test_overlap_counts_sum_to_the_two_supports(agreement: Overlap, drawn: dict[str, go.Figure]) -> None:
    bars, chance = drawn["overlap_counts"].data
    parts = dict(zip(bars.y, bars.x, strict=True))
    assert parts == {"Task-specific only": 11, "Task-agnostic only": 31, "Both": 4}
    assert list(chance.x) == [agreement.chance]
    assert chance.name == "by chance 0.17"
    named = figures.overlap_counts(agreement, ("breast", "skin"))
    assert named.data[0].y[0] == "Breast only"


def test_training_curves_span_the_run_and_mark_the_best_epoch(
    history: list[EpochReport], drawn: dict[str, go.Figure]
) -> None:
    figure = drawn["training_curves"]
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines["training loss"].y) == [report.loss for report in history]
    assert list(lines["validation AUROC"].y) == [report.val_auroc for report in history]
    assert list(lines["result"].x) == [2]
    assert list(lines["result"].y) == [history[1].val_loss]
    assert all(axis.range == (0.5, 8.5) for axis in figure.select_xaxes())
    assert "No epoch" in figures.training_curves([]).layout.annotations[0].text
    assert len(figures.training_curves(history[:1]).data) == len(figure.data)


def test_a_metric_that_is_not_defined_leaves_a_gap(history: list[EpochReport]) -> None:
    undefined = [replace(history[0], val_auroc=math.nan), *history[1:-1], replace(history[-1], val_auroc=0.3)]
    figure = figures.training_curves(undefined)
    assert [axis.range for axis in figure.select_yaxes(col=2)] == [pytest.approx((0.28, 1.02))]
    assert "NaN" not in figure.to_json()


def test_probabilities_are_ranked_and_written_out(drawn: dict[str, go.Figure]) -> None:
    bars = drawn["probability_bars"].data[0]
    assert list(bars.y) == ["malignant", "benign", "normal"]
    assert list(bars.x) == [0.7, 0.2, 0.1]
    assert list(bars.text) == ["70.0%", "20.0%", "10.0%"]
    assert bars.marker.color[0] == BLUE
    assert set(bars.marker.color[1:]) == {GRAY}


def test_numbers_are_short_and_never_in_powers_where_they_can_be_read() -> None:
    assert [format_count(x) for x in (0.0417, 3.84, 384.2, 12840)] == ["0.042", "3.8", "384", "12,840"]
    assert [format_share(x) for x in (0.000081, 0.012, 1)] == ["0.0081 %", "1.2 %", "100 %"]


def test_the_attribution_heatmap_puts_zero_in_the_middle_and_leaves_gaps(
    drawn: dict[str, go.Figure], parts: list[LayerAttribution]
) -> None:
    (cells,) = drawn["attribution_heatmap"].data
    assert list(zip(cells.y, cells.x, cells.z, strict=True)) == [
        ("blocks.0", "attn.qkv", 0.25),
        ("blocks.0", "mlp.fc1", -0.5),
        ("blocks.1", "attn.qkv", 0.125),
    ]
    assert (cells.zmin, cells.zmax) == (-0.5, 0.5)
    assert cells.colorscale[0][1] == ORANGE
    assert cells.colorscale[-1][1] == BLUE
    assert "3 trained weights change the logit by -0.5000" in cells.hovertext[1]
    later = [replace(part, block="blocks.1", depth=2) for part in parts[:2]]
    assert figures.attribution_heatmap([parts[1], *later]).layout.xaxis.categoryarray == ("attn.qkv", "mlp.fc1")
    assert "No weights" in figures.attribution_heatmap([]).layout.annotations[0].text
    nothing = [replace(part, total=0.0, gross=0.0) for part in parts]
    assert figures.attribution_heatmap(nothing).data[0].zmax > 0


def test_strength_curve_has_every_probability_and_distinct_dashes(
    drawn: dict[str, go.Figure], curve: StrengthCurve
) -> None:
    lines = {trace.name: trace for trace in drawn["strength_curve"].data}
    assert list(lines) == ["malignant", "benign"]
    assert tuple(lines["malignant"].y) == (0.2, 0.5, 0.9)
    assert tuple(lines["benign"].x) == curve.strengths
    assert drawn["strength_curve"].layout.shapes[0].x0 == 0.5
    names = tuple(f"class {n}" for n in range(9))
    many = StrengthCurve(names, (0.0, 1.0), ((1 / 9,) * 9, tuple(n / 36 for n in range(9))))
    lines = figures.strength_curve(many).data
    assert [trace.name for trace in lines][:2] == ["class 8", "class 7"]
    assert len({(trace.line.color, trace.line.dash) for trace in lines}) == len(lines) < 9


def test_histogram_shows_the_selection_threshold(summaries: list[LayerSummary]) -> None:
    drawn = figures.layer_histogram(summaries[0], threshold=1e-2, unit="nats")
    assert drawn.layout.shapes[-1].x0 == pytest.approx(-2)
    assert drawn.layout.annotations[-1].text == "selected from 0.01"
    assert "nats" in drawn.layout.xaxis.title.text


def test_two_heatmaps_share_a_color_scale(summaries: list[LayerSummary]) -> None:
    more = [replace(s, selected=1000) for s in summaries]
    first, second = (
        figures.importance_heatmap(summaries, "selected", beside=more),
        figures.importance_heatmap(more, "selected", beside=summaries),
    )
    assert (first.data[0].zmin, first.data[0].zmax) == (second.data[0].zmin, second.data[0].zmax)
    assert len(first.data[0].z) == len(summaries)


def test_color_bars_name_the_unit_of_scores_only(summaries: list[LayerSummary]) -> None:
    titles = {
        q: figures.importance_heatmap(summaries, q, unit="nats").data[0].colorbar.title.text for q in figures.QUANTITIES
    }
    assert titles["mean"] == "mean score, nats"
    assert titles["selected"] == "selected weights"

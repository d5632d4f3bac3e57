"""Figures of an evaluation: what is drawn is what was counted, and a click on a cell names it."""

import numpy as np
import pytest

from shpeft import figures, trust
from shpeft.evaluation import Predictions

CLASSES = ("benign", "malignant", "normal")


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 80)
    labels = tuple(int(rng.choice(3, p=row)) for row in p)
    ids = tuple(map(str, range(80)))
    return Predictions(ids, labels, ids, CLASSES, p)


@pytest.mark.parametrize(("made", "drawn"), [("roc_curve", "roc"), ("pr_curve", "precision_recall")])
def test_curves_are_drawn_within_their_band(predictions, made, drawn):
    curve = getattr(trust, made)(predictions, "malignant", resamples=50)
    low, high, line, chance = getattr(figures, drawn)(curve).data
    assert np.array_equal(line.y, curve.y, equal_nan=True)
    assert np.array_equal(low.y, curve.low, equal_nan=True)
    assert np.array_equal(high.y, curve.high, equal_nan=True)
    assert high.fill == "tonexty"
    assert chance.name == "chance"
    assert chance.y[0] == (0 if drawn == "roc" else pytest.approx(curve.chance))


def test_a_curve_that_cannot_be_is_a_sentence(predictions):
    curve = trust.roc_curve(trust.subgroups.select_cases(predictions, [0]), "malignant", resamples=5)
    assert "there is no curve" in figures.roc(curve).layout.annotations[0].text


def test_every_cell_of_the_confusion_matrix_can_be_clicked(predictions):
    counts = trust.confusion(predictions)
    drawn = figures.confusion_matrix(counts, CLASSES)
    heat, *_, squares = drawn.data
    assert heat.z.sum(1) == pytest.approx(np.full(3, 100.0))
    assert [tuple(cell) for cell in squares.customdata] == [(true, guess) for true in CLASSES for guess in CLASSES]
    assert list(squares.x) == [guess for _, guess in squares.customdata]
    assert list(squares.y) == [true for true, _ in squares.customdata]
    written = {
        (y, x): text
        for trace in drawn.data
        if trace.type == "scatter" and trace.mode == "text"
        for x, y, text in zip(trace.x, trace.y, trace.text, strict=True)
    }
    assert written == {(t, g): f"<b>{counts[i, j]}</b>" for i, t in enumerate(CLASSES) for j, g in enumerate(CLASSES)}


def test_the_numbers_do_not_fade_when_a_cell_is_chosen(predictions):
    written = [t for t in figures.confusion_matrix(trust.confusion(predictions), CLASSES).data[1:] if t.mode == "text"]
    assert written
    assert all(trace.unselected.textfont.color == trace.textfont.color for trace in written)


def test_a_class_without_images_leaves_an_empty_row():
    assert figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ("a", "b")).data[0].z[1].tolist() == [0, 0]


def test_reliability_shows_both_with_intervals(predictions):
    bins = trust.reliability_of(predictions), trust.reliability_of(trust.calibrated(predictions, 2.0))
    _, before, after = figures.reliability_diagram(*bins).data
    for trace, own in ((before, bins[0]), (after, bins[1])):
        assert list(trace.y) == [bin.observed.value for bin in own]
        top = np.array(trace.y) + np.array(trace.error_y.array)
        assert top == pytest.approx(np.array([bin.observed.interval[1] for bin in own]))


def test_what_was_chosen_is_marked(predictions):
    point = trust.choose_threshold(predictions, trust.ThresholdRule("malignant"))
    drawn = figures.threshold_lines(trust.threshold_curve(predictions, "malignant"), point)
    assert drawn.layout.shapes[0].x0 == point.threshold
    assert not figures.threshold_lines(trust.threshold_curve(predictions, "malignant"), None).layout.shapes
    curve = trust.risk_coverage(predictions)
    drawn = figures.risk_coverage_curve(curve, 0.9)
    assert drawn.layout.shapes[0].x0 == 0.9
    assert drawn.data[1].y[0] == curve.risk[-1]

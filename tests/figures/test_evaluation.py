"""Figures of an evaluation show the counted numbers, and a click on a cell names it."""

import numpy as np
import pytest

from shpeft import evaluation, figures
from shpeft.evaluation.predict import Predictions

CLASSES = ("benign", "malignant", "normal")


@pytest.fixture
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 80)
    labels = tuple(int(rng.choice(3, p=row)) for row in p)
    ids = tuple(map(str, range(80)))
    return Predictions(ids, labels, ids, CLASSES, p)


@pytest.mark.parametrize(("computed", "drawn"), [("roc_curve", "roc_curve"), ("pr_curve", "precision_recall_curve")])
def test_curves_are_drawn_within_their_band(predictions: Predictions, computed: str, drawn: str) -> None:
    curve = getattr(evaluation, computed)(predictions, "malignant", resamples=50)
    low, high, line, chance = getattr(figures, drawn)(curve).data
    assert np.array_equal(line.y, curve.y, equal_nan=True)
    assert np.array_equal(low.y, curve.low, equal_nan=True)
    assert np.array_equal(high.y, curve.high, equal_nan=True)
    assert high.fill == "tonexty"
    assert chance.name == "chance"
    assert chance.y[0] == (0 if drawn == "roc_curve" else pytest.approx(curve.chance))


def test_undefined_curve_is_a_message(predictions: Predictions) -> None:
    curve = evaluation.roc_curve(evaluation.subgroups.select_cases(predictions, [0]), "malignant", resamples=5)
    assert "there is no curve" in figures.roc_curve(curve).layout.annotations[0].text


def test_every_cell_of_the_confusion_matrix_can_be_clicked(predictions: Predictions) -> None:
    counts = evaluation.confusion(predictions)
    drawn = figures.confusion_matrix(predictions)
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


def test_the_numbers_do_not_fade_when_a_cell_is_chosen(predictions: Predictions) -> None:
    written = [t for t in figures.confusion_matrix(predictions).data[1:] if t.mode == "text"]
    assert written
    assert all(trace.unselected.textfont.color == trace.textfont.color for trace in written)


def test_a_class_without_images_leaves_an_empty_row() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    predictions = Predictions(tuple("1234"), (0, 0, 0, 0), tuple("1234"), ("a", "b"), p)
    assert figures.confusion_matrix(predictions).data[0].z.tolist() == [[75, 25], [0, 0]]


def test_reliability_shows_both_with_intervals(predictions: Predictions) -> None:
    reliability = evaluation.fit_reliability(predictions)
    calibrated = evaluation.calibrate_predictions(predictions, reliability.calibration.temperature)
    bins = evaluation.calibration_curve(predictions), evaluation.calibration_curve(calibrated)
    _, before, after = figures.reliability_diagram(predictions, reliability).data
    assert len(figures.reliability_diagram(predictions).data) == 2
    for trace, own in ((before, bins[0]), (after, bins[1])):
        assert list(trace.y) == [bin.observed.value for bin in own]
        top = np.array(trace.y) + np.array(trace.error_y.array)
        assert top == pytest.approx(np.array([bin.observed.interval[1] for bin in own]))


def test_chosen_threshold_and_coverage_are_marked(predictions: Predictions) -> None:
    point = evaluation.choose_threshold(predictions, evaluation.ThresholdRule("malignant"))
    drawn = figures.threshold_curves(evaluation.threshold_curve(predictions, "malignant"), point)
    assert drawn.layout.shapes[0].x0 == point.threshold
    assert not figures.threshold_curves(evaluation.threshold_curve(predictions, "malignant"), None).layout.shapes
    curve = evaluation.risk_coverage(predictions)
    drawn = figures.risk_coverage_curve(curve, 0.9)
    assert drawn.layout.shapes[0].x0 == 0.9
    assert drawn.data[1].y[0] == curve.risk[-1]

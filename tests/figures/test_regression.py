"""Figures of predicted numbers show every case and the interval."""

import numpy as np

from shpeft import figures
from shpeft.evaluation import IntervalRule, fit_interval
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import Regression

TRUE = tuple(float(n) for n in range(20, 60))
GUESS = np.array(TRUE)[:, None] + np.linspace(-4, 6, 40)[:, None]
IDS = tuple(map(str, range(40)))
PREDICTIONS = Predictions(IDS, TRUE, IDS, ("age",), GUESS, task=Regression(unit="years"))
FITTED = fit_interval(PREDICTIONS, IntervalRule(0.9))


def test_every_case_is_a_point_and_the_band_has_the_interval() -> None:
    band, _, points = figures.predicted_against_true(PREDICTIONS, FITTED).data
    assert list(points.x) == list(TRUE)
    assert list(points.y) == GUESS[:, 0].tolist()
    assert FITTED.half_width is not None
    assert band.y[2] - band.x[2] == FITTED.half_width
    assert len(figures.predicted_against_true(PREDICTIONS).data) == 2


def test_errors_are_predicted_minus_true() -> None:
    *lines, points = figures.prediction_errors(PREDICTIONS, FITTED).data
    assert np.allclose(points.y, np.linspace(-4, 6, 40))
    assert np.isclose(lines[1].y[0], 1.0)
    assert [line.y[0] for line in lines[2:]] == [-FITTED.half_width, FITTED.half_width]  # type: ignore[operator]


def test_axes_have_the_unit_and_the_figure_its_text() -> None:
    figure = figures.prediction_errors(PREDICTIONS)
    assert figure.layout.xaxis.title.text == "true age (years)"
    assert figures.alt_text(figure) == "Points: error of age against its true value, 40 images"

"""Metrics of ordered classes: scikit-learn's kappa, and the distance of the grades."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from shpeft.evaluation.by_task import difference, metrics_of
from shpeft.evaluation.grades import evaluate_grades
from shpeft.evaluation.predict import Predictions
from shpeft.tasks import ORDINAL


def grades(seed: int = 0, n: int = 120) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    near = np.exp(-((np.arange(4) - labels[:, None] + rng.normal(0, 1, (n, 1))) ** 2))
    ids = tuple(map(str, range(n)))
    p = near / near.sum(1, keepdims=True)
    return Predictions(ids, tuple(labels.tolist()), ids, ("0", "1", "2", "3"), p, task=ORDINAL)


def test_kappa_is_scikit_learns() -> None:
    given = grades()
    measured, guess = evaluate_grades(given, resamples=200), given.probabilities.argmax(1)
    expected = cohen_kappa_score(given.labels, guess, weights="quadratic")
    assert measured["quadratic_kappa"].value == pytest.approx(expected, abs=1e-12)
    assert measured["quadratic_kappa"].low < expected < measured["quadratic_kappa"].high
    assert measured["grade_error"].value == pytest.approx(np.abs(np.array(given.labels) - guess).mean())


def test_they_stand_beside_the_metrics_of_classes() -> None:
    given = grades()
    values = metrics_of(given, resamples=20)
    assert {"quadratic_kappa", "grade_error", "balanced_accuracy", "per_class"} <= values.keys()
    paired = difference(given, given)
    assert paired["quadratic_kappa"].value == paired["quadratic_kappa"].high == 0


def test_a_constant_guess_agrees_by_chance() -> None:
    given = grades()
    constant = Predictions(given.ids, given.labels, given.groups, given.classes, np.eye(4)[[1] * 120], task=ORDINAL)
    assert evaluate_grades(constant, resamples=5)["quadratic_kappa"].value == pytest.approx(0)

"""Metrics of ordered classes: scikit-learn's kappa, and the distance of the grades."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from shpeft.evaluation import DecisionRules, answer_case, assess_case, confusion, fit_reliability
from shpeft.evaluation.by_task import difference, metrics_of
from shpeft.evaluation.grades import evaluate_grades
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions
from shpeft.runs.predictions import parse_predictions, predictions_text
from shpeft.tasks import ORDINAL, SINGLE_LABEL, Ordinal, read_task


def grades(seed: int = 0, n: int = 120) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    near = np.exp(-((np.arange(4) - labels[:, None] + rng.normal(0, 1, (n, 1))) ** 2))
    ids = tuple(map(str, range(n)))
    p = near / near.sum(1, keepdims=True)
    return Predictions(ids, tuple(labels.tolist()), ids, ("0", "1", "2", "3"), p, task=ORDINAL)


def test_kappa_is_scikit_learns() -> None:
    given = grades()
    measured, guess = evaluate_grades(given, resamples=200), given.decided
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


def test_the_median_has_the_lowest_expected_distance() -> None:
    """Of all classes, for any distribution; the most probable one does not."""
    p = np.random.default_rng(0).dirichlet(np.full(5, 0.6), 500)
    distance = np.abs(np.arange(5)[:, None] - np.arange(5))
    expected = p @ distance
    rows = np.arange(500)
    assert np.allclose(expected[rows, ORDINAL.decide(p)], expected.min(1))
    assert (expected[rows, Ordinal("mode").decide(p)] > expected.min(1) + 1e-9).mean() > 0.05


def test_metrics_rates_and_sets_are_of_the_same_decisions() -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(4, 0.5), 200)
    labels = tuple(int(rng.choice(4, p=row)) for row in p)
    ids = tuple(map(str, range(200)))
    given = Predictions(ids, labels, ids, ("0", "1", "2", "3"), p, task=ORDINAL)
    assert (given.decided != p.argmax(1)).sum() > 10
    fitted = fit_reliability(given, DecisionRules(), given)
    assert fitted.test is not None
    assert fitted.test.by_class is not None
    right = given.decided == np.array(labels)
    assert sum(r.sensitivity.count for r in fitted.test.by_class.values()) == right.sum()
    assert evaluate(given, resamples=0).accuracy.value == right.mean()
    assert np.trace(confusion(given)) == right.sum()
    for row in range(50):
        decided = given.classes[given.decided[row]]
        case = assess_case(fitted, p[row].tolist(), decided)
        assert decided in case.prediction_set
        assert answer_case(given.classes, p[row].tolist(), case, predicted=decided).decision == decided


def test_runs_of_earlier_versions_keep_the_most_probable_class() -> None:
    earlier = read_task({"name": "ordinal"})
    given = grades()
    text = predictions_text({"finetuned": replace(given, task=earlier)})
    assert text.splitlines()[0].startswith("id,group,grade,")
    assert np.array_equal(parse_predictions(text, "finetuned").decided, given.probabilities.argmax(1))
    again = parse_predictions(predictions_text({"finetuned": given}), "finetuned")
    assert again.task == ORDINAL
    assert ORDINAL.means_the_same(earlier)
    assert not ORDINAL.means_the_same(SINGLE_LABEL)

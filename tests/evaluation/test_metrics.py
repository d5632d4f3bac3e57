"""Metrics against scikit-learn, on the cases and on resamples written out case by case."""

import numpy as np
import pytest
from sklearn import metrics as sk

from shpeft.errors import ClassMismatch
from shpeft.evaluation import METRICS, Predictions, difference, evaluate, predict
from shpeft.evaluation import resample_groups as resamples_of
from shpeft.evaluation import weighted_metrics as statistics_of

from .conftest import tiny


def make(n: int = 120, classes: int = 3, seed: int = 0, groups: tuple[str, ...] | None = None) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p = np.round(p, 2)  # ties
    p = p / p.sum(1, keepdims=True)
    ids = tuple(str(i) for i in range(n))
    return Predictions(ids, tuple(labels.tolist()), groups or ids, tuple("abcdefgh"[:classes]), p)


def by_scikit(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    guess, classes = p.argmax(1), p.shape[1]
    top, bins = p.max(1), np.minimum((p.max(1) * 15).astype(int), 14)
    gaps = [abs((guess == y)[bins == b].mean() - top[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    return {
        "accuracy": sk.accuracy_score(y, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(y, guess),
        "macro_f1": sk.f1_score(y, guess, average="macro"),
        "macro_auroc": np.mean([sk.roc_auc_score(y == c, p[:, c]) for c in range(classes)]),
        "mcc": sk.matthews_corrcoef(y, guess),
        "ece": sum(gaps),
        "brier": np.mean(((p - np.eye(classes)[y]) ** 2).sum(1)),
    }


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_values_equal_scikit_learn(classes):
    predictions = make(200, classes)
    found = evaluate(predictions, resamples=10)
    for name, value in by_scikit(predictions.probabilities, np.asarray(predictions.labels)).items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-12), name


def test_replicates_equal_scikit_learn_on_the_drawn_cases():
    predictions = make()
    weights = resamples_of(predictions.groups, 20, seed=3)
    found = statistics_of(predictions, weights)
    for row, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(weight)), weight)
        expected = by_scikit(predictions.probabilities[drawn], np.asarray(predictions.labels)[drawn])
        for name in METRICS:
            assert found[name][row] == pytest.approx(expected[name], abs=1e-12), name


def test_groups_are_drawn_together():
    groups = tuple(str(i // 4) for i in range(120))
    weights = resamples_of(groups, 50, seed=0)
    assert (weights.reshape(50, 30, 4) == weights.reshape(50, 30, 4)[:, :, :1]).all()
    assert (weights[:, ::4].sum(1) == 30).all()
    wide, narrow = evaluate(make(groups=groups)), evaluate(make())
    assert wide.accuracy.value == narrow.accuracy.value
    assert (wide.brier.low, wide.brier.high) != (narrow.brier.low, narrow.brier.high)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = evaluate(make(20_000, seed=99), resamples=0).accuracy.value
    inside = 0
    for seed in range(100):
        interval = evaluate(make(150, seed=seed), resamples=300).accuracy
        inside += interval.low <= truth <= interval.high
    assert 87 <= inside <= 100


def test_intervals_are_seeded_and_contain_the_value():
    one, two = evaluate(make(), seed=4), evaluate(make(), seed=4)
    assert one == two
    for name in METRICS[:5]:
        interval = getattr(one, name)
        assert interval.low <= interval.value <= interval.high
    assert str(one.accuracy).count("[") == 1


def test_the_difference_is_paired():
    a = make(seed=0)
    nothing = difference(a, a)
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in nothing.values())
    worse = Predictions(a.ids, a.labels, a.groups, a.classes, np.roll(a.probabilities, 1, axis=1))
    found = difference(a, worse)["accuracy"]
    assert found.value == pytest.approx(evaluate(a).accuracy.value - evaluate(worse).accuracy.value)
    assert found.low > 0
    with pytest.raises(ClassMismatch, match="same cases"):
        difference(a, make(seed=1))


def test_a_class_without_cases_does_not_break_the_metrics():
    p = make()
    labels = tuple(min(label, 1) for label in p.labels)
    found = evaluate(Predictions(p.ids, labels, p.groups, p.classes, p.probabilities))
    assert np.isfinite(found.macro_auroc.value)
    assert found.per_class[2]["cases"] == 0
    assert np.isnan(found.per_class[2]["recall"].value)


def test_predict_gives_probabilities_of_each_case(data):
    backbone = tiny()
    predictions = predict(backbone, data.test)
    assert predictions.probabilities.shape == (45, 3)
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1)
    assert predictions.labels == data.test.labels
    with pytest.raises(ClassMismatch, match="same classes"):
        predict(tiny(classes=("x", "y", "z")), data.test)

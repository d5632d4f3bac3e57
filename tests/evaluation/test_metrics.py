"""Metrics against scikit-learn, on the cases and on resamples written out case by case."""

import numpy as np
import pytest
from sklearn import metrics as sk

from shpeft.datasets import Dataset
from shpeft.errors import ClassMismatch
from shpeft.evaluation.metrics import METRICS, difference, evaluate, resample_groups, weighted_metrics
from shpeft.evaluation.predict import Predictions, predict
from tests.conftest import tiny


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
def test_values_equal_scikit_learn(classes: int) -> None:
    predictions = make(200, classes)
    result = evaluate(predictions, resamples=10)
    for name, value in by_scikit(predictions.probabilities, np.asarray(predictions.labels)).items():
        assert getattr(result, name).value == pytest.approx(value, abs=1e-12), name


def test_replicates_equal_scikit_learn_on_the_drawn_cases() -> None:
    predictions = make()
    weights = resample_groups(predictions.groups, 20, seed=3)
    result = weighted_metrics(predictions, weights)
    for row, weight in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(weight)), weight)
        expected = by_scikit(predictions.probabilities[drawn], np.asarray(predictions.labels)[drawn])
        for name in METRICS:
            assert result[name][row] == pytest.approx(expected[name], abs=1e-12), name


def test_groups_are_drawn_together() -> None:
    groups = tuple(str(i // 4) for i in range(120))
    weights = resample_groups(groups, 50, seed=0)
    assert (weights.reshape(50, 30, 4) == weights.reshape(50, 30, 4)[:, :, :1]).all()
    assert (weights[:, ::4].sum(1) == 30).all()
    wide, narrow = evaluate(make(groups=groups)), evaluate(make())
    assert wide.accuracy.value == narrow.accuracy.value
    assert (wide.brier.low, wide.brier.high) != (narrow.brier.low, narrow.brier.high)


def test_intervals_have_nominal_coverage() -> None:
    truth = evaluate(make(20_000, seed=99), resamples=0).accuracy.value
    inside = 0
    for seed in range(100):
        interval = evaluate(make(150, seed=seed), resamples=300).accuracy
        inside += interval.low <= truth <= interval.high
    assert 87 <= inside <= 100


def test_intervals_are_seeded_and_contain_the_value() -> None:
    first, second = evaluate(make(), seed=4), evaluate(make(), seed=4)
    assert first == second
    for name in METRICS[:5]:
        interval = getattr(first, name)
        assert interval.low <= interval.value <= interval.high
    assert str(first.accuracy).count("[") == 1


def test_the_difference_is_paired() -> None:
    a = make(seed=0)
    nothing = difference(a, a)
    assert all((d.value, d.low, d.high) == (0, 0, 0) for d in nothing.values())
    worse = Predictions(a.ids, a.labels, a.groups, a.classes, np.roll(a.probabilities, 1, axis=1))
    result = difference(a, worse)["accuracy"]
    assert result.value == pytest.approx(evaluate(a).accuracy.value - evaluate(worse).accuracy.value)
    assert result.low > 0
    with pytest.raises(ClassMismatch, match="same cases"):
        difference(a, make(seed=1))


def test_class_without_cases_is_left_out_of_the_means() -> None:
    p = make()
    labels = tuple(min(label, 1) for label in p.labels)
    result = evaluate(Predictions(p.ids, labels, p.groups, p.classes, p.probabilities))
    assert np.isfinite(result.macro_auroc.value)
    assert result.per_class[2]["cases"] == 0
    assert np.isnan(result.per_class[2]["recall"].value)


def test_predict_returns_probabilities_of_each_case(data: Dataset) -> None:
    backbone = tiny()
    predictions = predict(backbone, data.test)
    assert predictions.probabilities.shape == (45, 3)
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1)
    assert predictions.labels == data.test.labels
    with pytest.raises(ClassMismatch, match="same classes"):
        predict(tiny(classes=("x", "y", "z")), data.test)

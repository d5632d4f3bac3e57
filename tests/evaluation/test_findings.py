"""Metrics of several findings: those of scikit-learn on the cases where each is known."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from shpeft.errors import ClassMismatch
from shpeft.evaluation.by_task import difference
from shpeft.evaluation.findings import as_known_in, evaluate_findings, of_finding
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import calibrate
from shpeft.tasks import MULTI_LABEL

FINDINGS = ("edema", "effusion", "mass")


def predictions(seed: int = 0, n: int = 200, unknown: float = 0.2) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < (0.5, 0.3, 0.1)).astype(int)
    p = 1 / (1 + np.exp(-(1.5 * labels - 1 + rng.normal(0, 1, (n, 3))).round(1)))  # with ties
    labels[rng.random((n, 3)) < unknown] = -1
    ids = tuple(map(str, range(n)))
    groups = tuple(str(case // 2) for case in range(n))
    return Predictions(ids, tuple(map(tuple, labels.tolist())), groups, FINDINGS, p, task=MULTI_LABEL)


def test_each_finding_has_scikit_learns_metrics_on_the_cases_that_are_known() -> None:
    given = predictions()
    metrics, labels = evaluate_findings(given, resamples=20), np.array(given.labels)
    areas = []
    for c, row in enumerate(metrics.per_class):
        known = labels[:, c] >= 0
        y, p = labels[known, c], given.probabilities[known, c]
        assert row["known"] == known.sum()
        assert row["cases"] == y.sum()
        assert row["auroc"].value == pytest.approx(roc_auc_score(y, p), abs=1e-12)
        assert row["average_precision"].value == pytest.approx(average_precision_score(y, p), abs=1e-12)
        assert row["auroc"].low <= row["auroc"].value <= row["auroc"].high
        areas.append(row["auroc"].value)
    assert metrics.macro_auroc.value == pytest.approx(np.mean(areas))
    known = labels >= 0
    assert metrics.brier.value == pytest.approx(np.mean((given.probabilities - labels)[known] ** 2))


def test_a_finding_is_a_question_of_two_classes() -> None:
    given = predictions()
    two = of_finding(given, "mass")
    assert two.classes == ("no mass", "mass")
    assert len(two.ids) == sum(label[2] >= 0 for label in given.labels)
    assert np.allclose(two.probabilities.sum(1), 1)
    row = evaluate_findings(given, resamples=0).per_class[2]
    assert evaluate(two, resamples=0).macro_auroc.value == pytest.approx(row["auroc"].value)
    p = two.probabilities[0, 1]  # a temperature of the two classes is one of the sigmoid
    scaled = 1 / (1 + np.exp(-np.log(p / (1 - p)) / 1.7))
    assert calibrate(two.probabilities, 1.7)[0, 1] == pytest.approx(scaled)


def test_a_finding_without_positive_cases_is_absent_from_the_mean() -> None:
    given = predictions()
    labels = tuple((*label[:2], 0) for label in given.labels)
    metrics = evaluate_findings(
        Predictions(given.ids, labels, given.groups, FINDINGS, given.probabilities, task=MULTI_LABEL), resamples=5
    )
    assert np.isnan(metrics.per_class[2]["auroc"].value)
    assert metrics.macro_auroc.value == pytest.approx(np.mean([r["auroc"].value for r in metrics.per_class[:2]]))


def test_differences_are_paired_and_refuse_other_cases() -> None:
    given = predictions()
    assert all(i.value == i.low == i.high == 0 for i in difference(given, given).values())
    with pytest.raises(ClassMismatch, match="same cases"):
        difference(given, predictions(seed=1))
    with pytest.raises(ClassMismatch, match="evaluate_findings"):
        evaluate(given)


def test_what_another_set_does_not_ask_is_unknown() -> None:
    given, other = predictions(), predictions(seed=1)
    labels = tuple((*label[:2], -1) for label in other.labels)
    without = Predictions(other.ids, labels, other.groups, FINDINGS, other.probabilities, task=MULTI_LABEL)
    assert {label[2] for label in as_known_in(without, given)} == {-1}
    assert [label[:2] for label in as_known_in(without, given)] == [label[:2] for label in given.labels]

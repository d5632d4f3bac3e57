"""The linear probe: accuracy above chance, and a head for raw features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import shpeft
from shpeft.datasets import Dataset
from shpeft.datasets.base import Split
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import predict
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import STRENGTHS, extract_features, fit_linear_probe
from tests.conftest import assert_unchanged, state, stripes, tiny


def test_the_folded_head_reproduces_the_probabilities_of_the_probe(data: Dataset) -> None:
    backbone = tiny()
    before = state(backbone)
    head = fit_linear_probe(backbone, data.train, data.val)
    assert_unchanged(backbone, before)
    x, y = extract_features(ForwardPass(backbone), data.train)
    x_test, _ = extract_features(ForwardPass(backbone), data.test)
    scaler = StandardScaler().fit(x)
    with head.applied(backbone):
        actual = predict(backbone, data.test).probabilities
    fits = (LogisticRegression(C=c, max_iter=500).fit(scaler.transform(x), y) for c in STRENGTHS)
    expected = [fit.predict_proba(scaler.transform(x_test)) for fit in fits]
    assert min(np.abs(actual - p).max() for p in expected) < 2e-3
    assert_unchanged(backbone, before)


def test_the_old_name_warns_and_fits_the_same_head(data: Dataset) -> None:
    backbone = tiny()
    with pytest.warns(DeprecationWarning, match="now called shpeft.fit_linear_probe"):
        head = shpeft.fit_head(backbone, data.train, data.val)
    expected = fit_linear_probe(backbone, data.train, data.val)
    assert torch.equal(head.weight, expected.weight)
    assert torch.equal(head.bias, expected.bias)
    assert "fit_head" not in shpeft.__all__


def test_the_probe_learns_visible_classes(data: Dataset) -> None:
    backbone = tiny()
    with fit_linear_probe(backbone, data.train, data.val).applied(backbone):
        assert evaluate(predict(backbone, data.test)).balanced_accuracy.value > 0.6


def test_two_classes_get_two_rows(data: Dataset) -> None:
    def two(part: int, count: int, name: str) -> Split:
        split = stripes(part, count, name)
        keep = [i for i, label in enumerate(split.labels) if label < 2]
        return replace(split.subset(keep), classes=("left", "right"))

    backbone = tiny(classes=("left", "right"))
    head = fit_linear_probe(backbone, two(0, 60, "train"), two(1, 30, "val"))
    assert head.weight.shape == (2, 64)
    torch.testing.assert_close(head.weight[0], -head.weight[1])

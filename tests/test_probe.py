"""The linear probe: better than chance on what it can see, and usable on raw features."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from shpeft.evaluation import evaluate, predict
from shpeft.feed import Feed
from shpeft.importance import head_written
from shpeft.probe import STRENGTHS, extract_features, fit_head

from .conftest import assert_unchanged, state, stripes, tiny


def test_the_folded_head_gives_the_probe_s_own_probabilities(data):
    backbone = tiny()
    before = state(backbone)
    head = fit_head(backbone, data.train, data.val)
    assert_unchanged(backbone, before)
    x, y = extract_features(Feed(backbone), data.train)
    x_test, _ = extract_features(Feed(backbone), data.test)
    scaler = StandardScaler().fit(x)
    with head_written(backbone, head):
        found = predict(backbone, data.test).probabilities
    fits = (LogisticRegression(C=c, max_iter=500).fit(scaler.transform(x), y) for c in STRENGTHS)
    expected = [fit.predict_proba(scaler.transform(x_test)) for fit in fits]
    assert min(np.abs(found - p).max() for p in expected) < 2e-3
    assert_unchanged(backbone, before)


def test_the_probe_learns_what_can_be_seen(data):
    backbone = tiny()
    with head_written(backbone, fit_head(backbone, data.train, data.val)):
        assert evaluate(predict(backbone, data.test)).balanced_accuracy.value > 0.6


def test_two_classes_get_two_rows(data):
    from dataclasses import replace

    def two(part: int, count: int, name: str):
        split = stripes(part, count, name)
        keep = [i for i, label in enumerate(split.labels) if label < 2]
        return replace(split.subset(keep), classes=("left", "right"))

    backbone = tiny(classes=("left", "right"))
    head = fit_head(backbone, two(0, 60, "train"), two(1, 30, "val"))
    assert head.weight.shape == (2, 64)
    torch.testing.assert_close(head.weight[0], -head.weight[1])

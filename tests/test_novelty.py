"""Novelty: the kept directions against the whole covariance, alarms as rare as promised, nothing of a single image."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from shpeft.runs.formats import novelty_bytes, parse_novelty
from shpeft.trust import fit_novelty, novelty


def features(n: int, seed: int, *, shift: float = 0.0, width: int = 96) -> np.ndarray:
    """Features that vary mostly in a few directions, around a mean that is the same for every seed."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    mixing, mean = fixed.normal(size=(8, width)), 3 * fixed.normal(size=width)
    own = rng.normal(size=(n, 8)) @ mixing + 0.3 * rng.normal(size=(n, width)) + mean
    return (own + shift * fixed.normal(size=width)).astype(np.float32)


def test_with_every_direction_the_distance_is_that_of_the_whole_covariance(monkeypatch):
    monkeypatch.setattr(novelty, "DIRECTIONS", 1000)
    train, other = features(200, 1), features(30, 2, shift=0.5)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, other)]
    whole = LedoitWolf().fit(unit[0].astype(np.float64))
    expected = np.sqrt(whole.mahalanobis(unit[1]) / train.shape[1])
    assert fit_novelty(train, other).distances(other) == pytest.approx(expected, rel=1e-3)  # float32


def test_the_kept_directions_tell_the_same_images_apart():
    train, usual, odd = features(200, 1), features(60, 2), features(60, 3, shift=1.0)
    found = fit_novelty(train, usual)
    assert len(found.directions) == 64
    assert np.median(found.distances(odd)) > found.distances(usual).max()
    assert all(found.judge(row).alarm for row in odd[:10])
    assert found.judge(odd[0]).percentile == 1


def test_alarms_are_as_rare_as_promised():
    rates = []
    for seed in range(60):
        found = fit_novelty(features(150, 3 * seed), features(60, 3 * seed + 1))
        rates.append(np.mean(found.distances(features(300, 3 * seed + 2)) > found.limit))
    assert 0.02 < np.mean(rates) <= 0.05 + 3 * np.std(rates) / np.sqrt(60)


def test_few_validation_images_raise_an_alarm_beyond_all_of_them_only():
    usual = features(10, 2)
    found = fit_novelty(features(100, 1), usual)
    assert found.limit == found.distances(usual).max()
    assert not any(found.judge(row).alarm for row in usual)


def test_percentiles_are_shares_of_the_validation_images():
    usual = features(50, 2)
    found = fit_novelty(features(100, 1), usual)
    order = np.argsort(found.distances(usual))
    percentiles = [found.judge(usual[row]).percentile for row in order]
    assert percentiles == sorted(percentiles)
    assert percentiles == pytest.approx(np.linspace(0, 1, 50), abs=0.02)


def test_more_directions_than_features_or_images_are_no_error():
    assert fit_novelty(features(5, 1, width=12), features(3, 2, width=12)).limit > 0


def test_the_file_gives_the_same_distances_and_holds_no_image():
    train, usual = features(100, 1), features(30, 2)
    found = fit_novelty(train, usual)
    data = novelty_bytes(found)
    again = parse_novelty(data)
    assert np.array_equal(again.distances(usual), found.distances(usual))
    assert (again.limit, again.cases, again.rest) == (found.limit, 30, found.rest)
    assert len(data) < 4 * 96 * 70 + 3000
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    kept = np.vstack([again.mean, again.directions])
    assert np.abs(unit[:, None] - kept[None]).max(2).min() > 0.05  # no row is anybody's
    for damaged in (b"", data[:50], data.replace(b"shpeft.novelty/1", b"shpeft.novelty/9")):
        with pytest.raises(ValueError, match=r"."):
            parse_novelty(damaged)

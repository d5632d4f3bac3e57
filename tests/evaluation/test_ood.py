"""Out-of-distribution detection: distance with the stored directions, false alarm rate, nothing of a single image."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from shpeft.evaluation import fit_ood_detector, ood
from shpeft.images import Acquisition, Facts
from shpeft.runs.reliability import detector_bytes, parse_detector


def features(n: int, seed: int, *, shift: float = 0.0, width: int = 96) -> np.ndarray:
    """Features that vary mostly in a few directions, around a mean that is the same for every seed."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    mixing, mean = fixed.normal(size=(8, width)), 3 * fixed.normal(size=width)
    own = rng.normal(size=(n, 8)) @ mixing + 0.3 * rng.normal(size=(n, width)) + mean
    return (own + shift * fixed.normal(size=width)).astype(np.float32)


def test_distance_with_all_directions_uses_the_full_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ood, "DIRECTIONS", 1000)
    train, other = features(200, 1), features(30, 2, shift=0.5)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, other)]
    whole = LedoitWolf().fit(unit[0].astype(np.float64))
    expected = np.sqrt(whole.mahalanobis(unit[1]) / train.shape[1])
    assert fit_ood_detector(train, other).distances(other) == pytest.approx(expected, rel=1e-3)  # float32


def test_file_says_another_modality_or_body_part() -> None:
    breast = [Facts(Acquisition("US", "BREAST"))] * 6
    rare = [Facts(Acquisition("CT", "DOE JANE"))]  # too few to be stored
    detector = fit_ood_detector(features(100, 1), features(60, 2), facts=breast + rare)
    assert (detector.modalities, detector.body_parts) == (("US",), ("BREAST",))
    usual = features(1, 2)[0]
    for same in (Acquisition(), Acquisition("US"), Acquisition("US", "BREAST"), Acquisition("", "BREAST")):
        assert detector.score(usual, Facts(same)).reasons == ()
    ct = detector.score(usual, Facts(Acquisition("CT", "HEAD")))
    assert not ct.alarm
    assert ct.reasons == (
        "The file is marked as CT; the training images are ultrasound.",
        "The file is marked with another body part than the training images (breast).",
    )
    assert detector.score(usual, Facts(Acquisition("ZZ"))).reasons == (
        "The file is marked with another modality; the training images are ultrasound.",
    )
    again = parse_detector(detector_bytes(detector))
    assert (again.modalities, again.body_parts) == (("US",), ("BREAST",))


def test_modality_of_the_dataset_stands_in_for_files_that_say_none() -> None:
    detector = fit_ood_detector(features(100, 1), features(60, 2), modality="chest x-ray")
    assert detector.mismatches(Acquisition("US"))
    assert not detector.mismatches(Acquisition("DX"))
    assert not fit_ood_detector(features(100, 1), features(60, 2), modality="unheard of").mismatches(Acquisition("US"))


def test_64_directions_separate_shifted_features() -> None:
    train, usual, odd = features(200, 1), features(60, 2), features(60, 3, shift=1.0)
    detector = fit_ood_detector(train, usual)
    assert len(detector.directions) == 64
    assert np.median(detector.distances(odd)) > detector.distances(usual).max()
    assert all(detector.score(row).alarm for row in odd[:10])
    assert detector.score(odd[0]).percentile == 1


@pytest.mark.slow
def test_false_alarm_rate_is_nominal() -> None:
    rates = []
    for seed in range(60):
        detector = fit_ood_detector(features(150, 3 * seed), features(60, 3 * seed + 1))
        rates.append(np.mean(detector.distances(features(300, 3 * seed + 2)) > detector.limit))
    assert 0.005 < np.mean(rates) <= ood.ALARM + 3 * np.std(rates) / np.sqrt(60)


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 10, 25])
def test_few_validation_images_raise_few_false_alarms(count: int) -> None:
    """No rank of so few distances has 3 % beyond it; the bound of their logarithms still holds."""
    rates = []
    for seed in range(60):
        usual = features(count, 3 * seed + 1)
        detector = fit_ood_detector(features(100, 3 * seed), usual)
        assert detector.limit >= detector.distances(usual).max()
        assert not any(detector.score(row).alarm for row in usual)
        rates.append(np.mean(detector.distances(features(200, 3 * seed + 2)) > detector.limit))
    assert np.mean(rates) <= ood.ALARM + 3 * np.std(rates) / np.sqrt(60)


def test_percentiles_are_shares_of_the_validation_images() -> None:
    usual = features(50, 2)
    detector = fit_ood_detector(features(100, 1), usual)
    order = np.argsort(detector.distances(usual))
    percentiles = [detector.score(usual[row]).percentile for row in order]
    assert percentiles == sorted(percentiles)
    assert percentiles == pytest.approx(np.linspace(0, 1, 50), abs=0.02)


def test_fewer_features_than_directions() -> None:
    assert fit_ood_detector(features(5, 1, width=12), features(3, 2, width=12)).limit > 0


def test_file_round_trip_keeps_distances_and_holds_no_image() -> None:
    train, usual = features(100, 1), features(30, 2)
    detector = fit_ood_detector(train, usual)
    data = detector_bytes(detector)
    again = parse_detector(data)
    assert np.array_equal(again.distances(usual), detector.distances(usual))
    assert (again.limit, again.cases, again.rest) == (detector.limit, 30, detector.rest)
    assert len(data) < 4 * 96 * 70 + 3000
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    stored = np.vstack([again.mean, again.directions])
    assert np.abs(unit[:, None] - stored[None]).max(2).min() > 0.05  # no row is anybody's
    older = detector_bytes(detector).replace(b"shpeft.novelty/2", b"shpeft.novelty/1")
    assert parse_detector(older).blocks == ()
    for damaged in (b"", data[:50], data.replace(b"shpeft.novelty/2", b"shpeft.novelty/9")):
        with pytest.raises(ValueError, match=r"."):
            parse_detector(damaged)

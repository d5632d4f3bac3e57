"""Agreement between a reader and the model."""

import numpy as np
import pytest

from shpeft import NOTICE
from shpeft.errors import DiagnosisError
from shpeft.evaluation.reader_agreement import NumberReading, Reading, agreement, number_agreement


def readings(pairs: list[tuple[str, str]]) -> list[Reading]:
    return [Reading(f"case {n}", reader, 70, model, 0.9) for n, (reader, model) in enumerate(pairs)]


def test_agreement_and_kappa_of_a_hand_computed_table() -> None:
    pairs = [("ill", "ill")] * 20 + [("ill", "well")] * 5 + [("well", "ill")] * 10 + [("well", "well")] * 15
    result = agreement(readings(pairs))
    assert (result.agreed.count, result.agreed.cases) == (35, 50)
    assert result.kappa == pytest.approx(0.4)  # p_o = 0.7, p_e = 0.5 · 0.6 + 0.5 · 0.4 = 0.5


def test_kappa_of_one_class_is_not_defined() -> None:
    assert agreement(readings([("ill", "ill")] * 3)).kappa is None
    assert agreement(readings([("ill", "well")] * 3)).kappa == 0
    assert agreement([]).kappa is None


def test_reading_row_has_every_column_and_the_notice() -> None:
    (reading,) = readings([("ill", "well")])
    assert reading.to_dict() == {
        "case": "case 0",
        "reader_class": "ill",
        "reader_confidence": 70,
        "model_class": "well",
        "model_probability": 0.9,
        "agreed": False,
        "notice": NOTICE,
    }
    with pytest.raises(DiagnosisError, match="between 0 and 100; found 101"):
        Reading("case", "ill", 101, "ill", 0.5)


def numbers(differences: list[float]) -> list[NumberReading]:
    return [NumberReading(f"case {n}", "size", "mm", 10.0, 70, 10.0 + off) for n, off in enumerate(differences)]


def test_bias_and_limits_of_a_hand_computed_table() -> None:
    result = number_agreement(numbers([1.0, -1.0, 3.0, 1.0]))  # mean 1, squares 0 + 4 + 4 + 0 over 3
    sd = (8 / 3) ** 0.5
    assert result.bias == 1
    assert (result.low, result.high) == pytest.approx((1 - 1.95996 * sd, 1 + 1.95996 * sd), abs=1e-4)
    assert (result.bias_low, result.bias_high) == pytest.approx((1 - 3.18245 * sd / 2, 1 + 3.18245 * sd / 2), abs=1e-4)
    assert result.mean_absolute == 1.5
    assert result.text == (
        "The model minus you: bias 1.0 mm, limits of agreement -2.2 to 4.2 mm; mean absolute difference 1.5 mm."
    )


def test_the_limits_hold_95_of_100_normal_differences() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(-2.0, 3.0, 20_000)
    result = number_agreement(numbers(drawn.tolist()))
    inside = (drawn > result.low) & (drawn < result.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.005)
    assert result.bias_low < -2 < result.bias_high


def test_one_number_has_no_limits() -> None:
    with pytest.raises(DiagnosisError, match="at least two readings; there is one"):
        number_agreement(numbers([1.0]))
    with pytest.raises(DiagnosisError, match="between 0 and 100; found -1"):
        NumberReading("case", "size", "mm", 1.0, -1, 1.0)


def test_the_row_of_a_number_has_the_difference_and_the_notice() -> None:
    (reading,) = numbers([0.5])
    assert reading.to_dict()["difference"] == 0.5
    assert reading.to_dict()["notice"] == NOTICE

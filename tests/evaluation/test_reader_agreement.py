"""Agreement between a reader and the model."""

import pytest

from shpeft import NOTICE
from shpeft.errors import DiagnosisError
from shpeft.evaluation.reader_agreement import Reading, agreement


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

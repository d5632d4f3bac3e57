"""A number for each case: standardization, the loss, and labels as text."""

import math

import numpy as np
import pytest
import torch

from shpeft.tasks import REGRESSION, Regression, read_column, read_task
from shpeft.tasks.regression import split_unit

LABELS = (40.0, 50.0, 63.5, 71.25)
TASK = Regression(unit="years").fitted(LABELS)
LOGITS = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_targets_have_the_mean_and_deviation_of_the_training_cases() -> None:
    target = TASK.target(LABELS).double()
    assert target.mean().item() == pytest.approx(0, abs=1e-6)
    assert target.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert target.shape == (4, 1)


def test_a_prediction_inverts_the_standardization() -> None:
    values = TASK.probabilities(TASK.target(LABELS))
    assert values.dtype == torch.float64
    assert values[:, 0].tolist() == pytest.approx(LABELS, rel=1e-6)


def test_the_loss_is_half_the_squared_error_in_deviations() -> None:
    target = TASK.target(LABELS)
    values = TASK.mean + TASK.std * LOGITS[:, 0].numpy()
    each = 0.5 * ((values - np.array(LABELS)) / TASK.std) ** 2
    assert TASK.loss(LOGITS, target).item() == pytest.approx(each.mean(), rel=1e-6)
    assert TASK.loss(LOGITS, target, "sum").item() == pytest.approx(each.sum(), rel=1e-6)


def test_its_gradient_is_the_error() -> None:
    logits, target = LOGITS.clone().requires_grad_(), TASK.target(LABELS)
    TASK.loss(logits, target, "sum").backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, logits.detach() - target)


def test_text_keeps_every_digit() -> None:
    value = 0.1 + 0.2
    assert TASK.parse(TASK.text(value, ("age",)), ("age",)) == value
    assert TASK.shown(value, ("age",)) == "0.3 years"
    for text in ("nan", "inf", "-inf", "old", ""):
        with pytest.raises(ValueError):  # noqa: PT011 (messages of float differ by version)
            TASK.parse(text, ("age",))


def test_the_task_survives_its_file_and_the_column_keeps_the_unit() -> None:
    assert read_task(TASK.to_dict()) == TASK
    assert isinstance(restored := read_column(TASK.column), Regression)
    assert restored.unit == "years"
    assert read_column(REGRESSION.column) == REGRESSION
    with pytest.raises(ValueError, match="of no task"):
        read_column("mystery")


def test_equal_numbers_cannot_be_learned() -> None:
    assert TASK.unlearnable((3.0, 3.0), ("age",)) == "every image has the age 3"
    assert TASK.unlearnable((3.0, 4.0), ("age",)) == ""
    assert TASK.fitted((3.0, 3.0)).std == 1.0


@pytest.mark.parametrize(
    ("title", "parts"),
    [
        ("age (years)", ("age", "years")),
        ("lesion size [mm]", ("lesion size", "mm")),
        ("volume[ml]", ("volume", "ml")),
        ("age", ("age", "")),
        ("(years)", ("(years)", "")),
    ],
)
def test_a_unit_stands_in_brackets(title: str, parts: tuple[str, str]) -> None:
    assert split_unit(title) == parts


def test_there_is_one_stratum() -> None:
    assert TASK.strata(LABELS, ("age",)) == [(0,)] * 4
    assert TASK.counts(LABELS, ("age",)) == {"age": 4}
    assert math.isclose(TASK.std, float(np.std(LABELS)))

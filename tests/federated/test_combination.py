"""The mean of the sites, without those that cannot be used."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shpeft.linear_probe import Head
from shpeft.pipeline.federated import Update, combine

ALL = torch.ones(3, dtype=torch.bool)


def head(value: float, features: int = 4) -> Head:
    return Head(torch.full((3, features), value), torch.full((3,), value))


def update(value: float, images: int = 10, **others: Any) -> Update:
    given: dict[str, Any] = {"values": torch.full((5,), value), "head": head(value), "images": images, "present": ALL}
    return Update(**given | others)


@given(st.floats(-10, 10, width=32), st.integers(1, 10**6))
def test_a_single_site_is_its_own_mean_to_the_bit(value: float, images: int) -> None:
    values = torch.linspace(0, value, 5)
    combined = combine({"a": update(0.0, images, values=values)}, torch.zeros(5), head(0.0))
    assert torch.equal(combined.values, values)


def test_images_weigh_values_and_heads() -> None:
    combined = combine({"a": update(1.0, 30), "b": update(2.0, 10)}, torch.zeros(5), head(0.0))
    assert combined.values.tolist() == [1.25] * 5
    assert combined.head is not None
    assert combined.head.weight.unique().tolist() == [1.25]
    assert combined.used == ("a", "b")


def test_a_row_of_the_head_counts_where_its_class_is() -> None:
    parts = {
        "a": update(1.0, present=torch.tensor([True, True, False])),
        "b": update(3.0, present=torch.tensor([True, False, False])),
    }
    combined = combine(parts, torch.zeros(5), head(0.5))
    assert combined.head is not None
    assert combined.head.bias.tolist() == [2.0, 1.0, 0.5]
    assert combined.head.weight[:, 0].tolist() == [2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (update(float("nan")), "not finite"),
        (update(float("inf")), "not finite"),
        (update(1.0, head=head(float("nan"))), "not finite"),
        (update(1.0, values=torch.ones(6)), "another shape"),
        (update(1.0, head=head(1.0, features=5)), "another shape"),
        (update(1.0, head=None), "has a head"),
        (update(1.0, images=0), "no images"),
        (update(1e6), "times as far"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_named(bad: Update, reason: str) -> None:
    parts = {"a": update(1.0), "bad": bad, "c": update(3.0)}
    combined = combine(parts, torch.zeros(5), head(0.0))
    assert combined.used == ("a", "c")
    assert list(combined.left_out) == ["bad"]
    assert reason in combined.left_out["bad"]
    assert combined.values.tolist() == [2.0] * 5


def test_of_two_sites_the_far_one_is_left_out() -> None:
    assert combine({"a": update(1e3), "b": update(1.0)}, torch.zeros(5), head(0.0)).used == ("b",)


def test_without_any_usable_reply_nothing_moves() -> None:
    combined = combine({"a": update(float("nan"))}, torch.full((5,), 0.5), head(0.5))
    assert combined.values.tolist() == [0.5] * 5
    assert combined.used == ()


def test_personal_heads_are_not_combined() -> None:
    combined = combine({"a": update(1.0, head=None), "b": update(1.0)}, torch.zeros(5), None)
    assert combined.head is None
    assert combined.used == ("a",)
    assert "none is shared" in combined.left_out["b"]

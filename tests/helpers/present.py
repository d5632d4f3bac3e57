"""Narrow optional values in tests."""

from typing import TypeVar

from shpeft.evaluation.reliability import Reliability

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return the value, or fail the test if it is None."""
    assert value is not None
    return value


def single_label(reliability: object) -> Reliability:
    """Return the reliability of a run of single labels, or fail the test if it is another."""
    assert isinstance(reliability, Reliability)
    return reliability

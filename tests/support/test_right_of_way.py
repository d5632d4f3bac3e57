"""Background work gives way to what somebody waits for, and is never starved."""

import threading
import time

import pytest

from shpeft.support import right_of_way
from shpeft.support.right_of_way import RightOfWay


def test_it_waits_until_the_last_request_is_done() -> None:
    way, waited = RightOfWay(), list[float]()
    background = threading.Thread(target=lambda: waited.append(way.give_way()))
    with way.claimed():
        with way.claimed():
            background.start()
        background.join(0.05)
        assert background.is_alive()
    background.join(5)
    assert waited[0] > 0
    assert way.give_way() == 0


def test_a_request_that_fails_leaves_the_way_free() -> None:
    way = RightOfWay()
    with pytest.raises(ValueError, match="the work failed"), way.claimed():
        raise ValueError("the work failed")
    assert way.give_way() == 0


def test_a_stream_of_requests_leaves_it_at_least_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(right_of_way, "LONGEST", 0.2)
    way, began, waited, worked = RightOfWay(), time.monotonic(), 0.0, 0.0
    with way.claimed():  # by somebody, all the time
        while time.monotonic() - began < 2:
            step = time.monotonic()
            time.sleep(0.02)
            worked += time.monotonic() - step
            waited += way.give_way()
    assert waited >= 0.2
    assert waited <= 0.2 + worked + 0.3


def test_work_that_is_to_end_does_not_wait() -> None:
    way, end = RightOfWay(), threading.Event()
    with way.claimed():
        threading.Timer(0.05, end.set).start()
        assert way.give_way(end.is_set) < 5

"""The work queue: tasks of a lane run in order, lanes run side by side, and join waits for the end."""

import threading

import pytest

from shpeft.support.work_queue import WorkQueue


def test_tasks_of_a_lane_run_in_order_and_lanes_side_by_side() -> None:
    queue, both = WorkQueue("test"), threading.Barrier(2, timeout=20)
    done: list[str] = []

    def meet() -> None:
        both.wait()

    def meet_and_record() -> None:
        both.wait()
        done.append("a1")

    queue.put("a", meet_and_record)
    queue.put("a", lambda: done.append("a2"))
    queue.put("b", meet)
    queue.close()
    queue.join(20)
    assert done == ["a1", "a2"]
    assert not queue.alive


def test_a_closed_queue_refuses_tasks() -> None:
    queue = WorkQueue("test")
    queue.close()
    assert queue.closed
    with pytest.raises(RuntimeError, match="closed"):
        queue.put("a", lambda: None)

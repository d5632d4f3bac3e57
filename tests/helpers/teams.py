"""Teams of threads: every thread is one process of the team, with a process group of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed
from torch.distributed import distributed_c10d as c10d

from shpeft.support.team import Team

T = TypeVar("T")


def in_team(size: int, work: Callable[[Team], T]) -> list[T]:
    """Return what ``work`` returns in each process of a team; the first error of a process ends the others."""
    store = distributed.HashStore()  # type: ignore[attr-defined]
    threads = torch.get_num_threads()

    def member(rank: int) -> T:
        torch.set_num_threads(threads)
        group = c10d.ProcessGroupGloo(store, rank, size, timedelta(seconds=60))
        team = Team(rank, size, group=group, store=store)
        try:
            return work(team)
        except BaseException as error:
            team.leave(error)
            raise
        finally:
            del team._group, group  # closes the connections

    with ThreadPoolExecutor(size) as pool:
        members = [pool.submit(member, rank) for rank in range(size)]
        errors = [error for m in members if (error := m.exception()) is not None]
        if errors:
            raise BaseExceptionGroup("a team failed", errors)
        return [m.result() for m in members]

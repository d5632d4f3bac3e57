"""A process alone pays nothing; the processes of a team agree, and learn why another has ended."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from shpeft.errors import Cancelled, DatasetError, Interrupted, TrainingError
from shpeft.support.team import ALONE, Team
from tests.helpers.teams import in_team


def test_a_process_alone_is_the_identity_and_imports_nothing() -> None:
    code = (
        "import sys; from shpeft.support.team import ALONE; before = set(sys.modules); marker = object()\n"
        "assert ALONE.sum(marker) is marker and ALONE.tell(lambda: b'x') == b'x' and ALONE.agree(dict) == {}\n"
        "ALONE.wait(); assert set(sys.modules) == before and 'torch' not in before, set(sys.modules) - before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ALONE.leads
    assert ALONE.alone
    assert ALONE.bytes_summed == 0


@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_get_the_same(size: int) -> None:
    def work(team: Team) -> dict[str, Any]:
        values = torch.linspace(0, 1, 7) * (team.rank + 1)
        transposed = torch.arange(6.0).reshape(2, 3).t() * (team.rank + 1)
        return {
            "sum": team.sum(values),
            "transposed": team.sum(transposed),
            "told": team.tell(lambda: b"from %d" % team.rank),
            "nothing": team.tell(bytes),
            "agreed": team.agree(lambda: {"a": torch.tensor([team.rank, 5]), "b": torch.ones(0)}),
        }

    results = in_team(size, work)
    factor = size * (size + 1) / 2
    torch.testing.assert_close(results[0]["sum"], torch.linspace(0, 1, 7) * factor)
    assert torch.equal(results[0]["transposed"], torch.arange(6.0).reshape(2, 3).t() * factor)
    assert results[0]["told"] == b"from 0"
    assert results[0]["agreed"]["a"].tolist() == [0, 5]
    for other in results[1:]:
        assert torch.equal(other["sum"], results[0]["sum"])
        assert (other["told"], other["nothing"]) == (b"from 0", b"")
        assert torch.equal(other["agreed"]["a"], results[0]["agreed"]["a"])


def test_rows_of_all_processes_are_assembled_in_order_even_where_one_has_none() -> None:
    rows = torch.randn(5, 2, 3, dtype=torch.float64)

    def work(team: Team) -> torch.Tensor:
        own = [[0, 3], [1, 2, 4], []][team.rank]
        return team.assemble(own, [rows[row : row + 1] for row in own], 5)

    assert all(torch.equal(whole, rows) for whole in in_team(3, work))


def reasons(work: Any, size: int = 3) -> list[BaseException]:
    """Return the errors of all processes that failed."""
    with pytest.raises(ExceptionGroup) as group:
        in_team(size, work)
    return list(group.value.exceptions)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (DatasetError("image 7 is damaged"), TrainingError("image 7 is damaged")),
        (ZeroDivisionError("bug"), TrainingError("ZeroDivisionError in process 1: bug")),
        (Cancelled(), Cancelled()),
        (Interrupted("closed"), Interrupted("One of the 3 processes that train together is gone. Resume the run.")),
    ],
)
def test_the_others_learn_why_a_process_has_ended(failure: Exception, expected: Exception) -> None:
    def work(team: Team) -> None:
        team.wait()
        if team.rank == 1:
            raise failure
        team.sum(torch.ones(3))

    first, own, last = reasons(work)
    assert own is failure
    for other in (first, last):
        assert (type(other), str(other)) == (type(expected), str(expected))


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # as other programs set it
    with Team.join() as team:
        assert repr(team) == "Team(1 of 1)"

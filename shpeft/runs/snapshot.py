"""A run at one moment, for whoever looks on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shpeft.runs.folder import RunFolder
from shpeft.runs.state import Ending, Status

if TYPE_CHECKING:
    from shpeft.training import EpochReport


@dataclass(frozen=True)
class Snapshot:
    """What there is to say about a run at one moment.

    Attributes:
        stage: what is being done, in words.
        done: how much of ``total`` is done, over the whole run.
        fraction: the same from 0 to 1; it never goes back.
        eta_seconds: what is left, None before there is evidence.
        ending: what was asked and is not done yet: to ``stop`` with the best epoch so far, or to ``discard`` the run.
    """

    run: str
    status: Status
    stage: str = ""
    done: int = 0
    total: int = 0
    fraction: float = 0.0
    eta_seconds: float | None = None
    history: "tuple[EpochReport, ...]" = ()
    message: str = ""
    ending: Ending | Literal[""] = ""

    @classmethod
    def of(cls, folder: RunFolder) -> "Snapshot":
        """What a run's folder says."""
        state = folder.settle()
        return cls(
            run=folder.name,
            status=state.status,
            stage=state.stage,
            done=state.done,
            total=state.total,
            fraction=1.0 if state.status == "finished" else state.done / state.total if state.total else 0.0,
            history=tuple(folder.history()),
            message=state.message,
            ending="" if state.ended else folder.ending,
        )

"""The state of a run at one moment, for pages and commands that watch it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shpeft.runs.folder import RunFolder
from shpeft.runs.state import EndRequest, Status

if TYPE_CHECKING:
    from shpeft.training.loop import EpochReport


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one moment.

    Attributes:
        run: the name of the run.
        status: see :mod:`shpeft.runs.state`.
        stage: the current stage, as shown to the user.
        done: how much of ``total`` is done, over the whole run.
        total: the work of the whole run, in image passes.
        fraction: the same from 0 to 1; it never decreases.
        eta_seconds: estimated remaining seconds, None before there is an estimate.
        history: the epochs so far.
        message: how the run ended, as shown to the user.
        end_request: a pending request to ``stop`` with the best epoch so far or to ``discard`` the run; empty if none.
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
    end_request: EndRequest | Literal[""] = ""

    @classmethod
    def of(cls, folder: RunFolder) -> "Snapshot":
        """Read the state of a run from its folder."""
        state = folder.state.settle()
        return cls(
            run=folder.name,
            status=state.status,
            stage=state.stage,
            done=state.done,
            total=state.total,
            fraction=1.0 if state.status == "finished" else state.done / state.total if state.total else 0.0,
            history=tuple(folder.history.read()),
            message=state.message,
            end_request="" if state.ended else folder.state.end_request,
        )

"""``torchrun … -m shpeft finetune``: the folders of the processes that train together, and what a restart continues."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shpeft.config import RunConfig
from shpeft.errors import ConfigError, RunError
from shpeft.runs import RunFolder, temporary_run
from shpeft.support.team import Team


def is_supervised() -> bool:
    """Return whether a launcher watches this process, and would start it again if it ended with an error."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def check_restartable(named: bool) -> None:
    """Check that a restart would find the run again.

    Args:
        named: whether the command names the run's folder.

    Raises:
        ConfigError: the launcher may restart the command, which would begin another run.
    """
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) if is_supervised() else 0
    if restarts and not named:
        raise ConfigError(
            f"torchrun may restart this command {restarts} times, and each time it would begin a new run. Name its "
            "folder (--out), or start with --max-restarts 0."
        )


def restarted_run(path: Path, config: RunConfig) -> RunFolder:
    """Return the run that an earlier attempt of the same command began.

    Raises:
        RunError: the folder holds another run, or one that has ended and would not go on by itself.
    """
    folder = RunFolder.open(path)
    if folder.config.portable() != config.portable():
        raise RunError(f"{path} already holds another run. Choose another path, or overwrite it (--overwrite).")
    if (state := folder.state.read()).status not in ("queued", "running", "interrupted"):
        raise RunError(f"The run {folder.name} is {state.status}: nothing is started again. {state.message}".rstrip())
    return folder


@contextmanager
def run_folder(team: Team, open_folder: Callable[[int], RunFolder]) -> Iterator[RunFolder]:
    """Yield the folder in which a process works: the run's in the first process, a temporary one in the others.

    Args:
        team: the processes; the others receive the configuration.
        open_folder: makes or opens the run's folder in the given attempt.
    """
    if team.leads:
        folder = open_folder(team.attempt)
        team.tell(lambda: folder.config.model_dump_json().encode())
        yield folder
        return
    config = RunConfig.parse(json.loads(team.tell(bytes)))
    with temporary_run(config) as folder:
        yield folder


def silent_line(line: object) -> None:
    """Print nothing."""

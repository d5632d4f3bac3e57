"""Carry out the run of a folder in this process: what every engine runs, on installed code.

``python -m shpeft.jobs.worker FOLDER`` ends at its next step if the process that ``$SHPEFT_WATCHER`` names is gone.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shpeft.errors import Interrupted, RunError
from shpeft.runs import RunFolder

WATCHER = "SHPEFT_WATCHER"

PATIENCE = 60.0
"""Seconds that a worker waits for the lock of one that is gone: a file server may notice late."""


def work(folder: Path, alive: Callable[[], bool] = lambda: True) -> None:
    """Carry out a run, from its checkpoint if it has one; how it ended is in its folder.

    Args:
        folder: the folder of a run that nobody works on.
        alive: False interrupts the run at its next step: whoever watches it is gone.

    Raises:
        RunError: another process works on the run, or its folder is damaged.
    """
    run = RunFolder.open(folder)
    deadline = time.monotonic() + PATIENCE
    while not run.state.try_lock():  # before torch is imported, so that nobody else takes it meanwhile
        if time.monotonic() > deadline:
            raise RunError(f"The run {run.name} is being worked on. Wait until it ends, or stop it.")
    try:
        if run.state.status == "finished":
            return
        from shpeft import pipeline

        def progress(stage: str, done: int, total: int) -> None:
            if not alive():
                raise Interrupted("The process that watched it is gone.")

        pipeline.run(run.config, run, progress=progress)
    except BaseException:
        if not run.state.read().ended:
            raise
    finally:
        run.state.unlock()


if __name__ == "__main__":
    watcher = os.environ.get(WATCHER)
    work(Path(sys.argv[1]), lambda: watcher is None or os.getppid() == int(watcher))

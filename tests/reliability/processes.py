"""Children that run a piece of the program and may be killed, starved or watched.

They are forked from a server that has loaded the libraries, so that one takes a fraction of a second.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

FULL = os.environ.get("RELIABILITY") == "full"
"""Whether ``make reliability`` runs; in the normal suite, the same checks are few."""

LOCAL = ("127.", "::1", "localhost", "0.0.0.0")

LIBRARIES = ["shpeft.pipeline", "shpeft.compare", "shpeft.batch", "shpeft.reports", "shpeft.cli.main"]
LIBRARIES += ["tests.reliability.processes", "pydicom", "pyarrow.parquet"]

RESERVED = 2048
"""Address space in MiB that libraries reserve and do not use; the memory that is used is measured."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"}
"""Audit events that change files, besides opening one for writing."""


@dataclass
class Outcome:
    """How a piece of work ended.

    Attributes:
        kind: ``done``, ``refused`` (a ShpeftError), ``fault`` (anything else), or ``ended`` (killed, or over its time).
        message: the sentence, or the fault.
        seconds: processor time that it took.
        mebibytes: by how much the child's memory grew at most.
    """

    kind: str
    message: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


def context() -> ForkServerContext:
    """Return the way to start children; the server starts with the first one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    forks = get_context("forkserver")
    forks.set_forkserver_preload(LIBRARIES)
    return forks


def started(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a piece of work in a child.

    Streamlit's tester makes the page that it shows the main module, which a child would import.
    """
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        child = context().Process(target=work, args=arguments)
        child.start()
    finally:
        sys.modules["__main__"] = before
    return child


def ran(work: Callable[..., Any], *arguments: Any, report: Path, seconds: float, mebibytes: int) -> Outcome:
    """Run a piece of work in a child with limits on its time and memory.

    Args:
        work: a function at the top of a module.
        report: a file for the child's answer.
        seconds: the most processor time that it may take; and six times that by the clock without computing.
        mebibytes: the most memory that it may add.
    """
    report.unlink(missing_ok=True)
    child = started(_reported, work, arguments, report, seconds, mebibytes)
    if _waits(child, 6 * seconds):
        child.kill()
        child.join()
        return Outcome("ended", f"it waited for more than {6 * seconds:g} s", seconds)
    if not report.exists():
        return Outcome("ended", f"it ended with {child.exitcode}")
    return Outcome(**json.loads(report.read_text()))


def _waits(child: BaseProcess, patience: float) -> bool:
    """Return whether a child goes on without computing for this many seconds; False once it has ended.

    How long it takes by the clock depends on the others that work on this computer.
    """
    computed, since = 0.0, time.monotonic()
    while child.is_alive():
        child.join(0.2)
        if (now := _processor_ticks(child)) != computed:
            computed, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            return True
    return False


def _processor_ticks(child: BaseProcess) -> float:
    """Return the processor time of a child in ticks; 0 where the system does not say, or it has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0.0


def _reported(work: Callable[..., Any], arguments: Sequence[Any], report: Path, seconds: float, mebibytes: int) -> None:
    import resource

    from shpeft.errors import ShpeftError

    quiet()
    size = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (int((size + mebibytes + RESERVED) * 2**20),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1,) * 2)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began = _memory("VmRSS"), time.process_time()
    try:
        work(*arguments)
        outcome = Outcome("done")
    except ShpeftError as error:
        outcome = Outcome("refused", str(error))
    except BaseException as error:
        outcome = Outcome("fault", f"{type(error).__name__}: {error}")
    outcome.seconds, outcome.mebibytes = time.process_time() - began, _memory("VmHWM") - before
    report.write_text(json.dumps(asdict(outcome)))


def _memory(kind: str) -> float:
    """Return an amount of this process's memory in MiB; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def quiet() -> None:
    """Send the output of this process nowhere."""
    redirected(Path(os.devnull), Path(os.devnull))


def redirected(output: Path, errors: Path) -> None:
    """Send the output of this process to files, to whose ends it is added."""
    for path, stream in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)


def command(
    arguments: Sequence[str],
    log: Path,
    root: Path,
    kill_at: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start ``shpeft`` with arguments in a child.

    Args:
        arguments: of the command.
        log: a file for its output; ``log`` with the suffix ``.changes`` gets the number of its changes to files.
        root: the folder that holds everything it writes, and the folder of runs.
        kill_at: the change to files before which it kills itself.
        environment: variables of its own.
    """
    return started(_command, list(arguments), log, root, kill_at, dict(environment or {}))


def _command(arguments: list[str], log: Path, root: Path, kill_at: int | None, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    os.environ["SHPEFT_RUNS"] = str(root / "runs")
    os.environ["SHPEFT_CACHE"] = "off"
    redirected(log, log)
    changes, where, outside = 0, str(root), log.with_suffix(".outside")

    def audit(event: str, given: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in ("socket.getaddrinfo", "socket.connect"):
            address = given[0] if event == "socket.getaddrinfo" else given[1]
            name = str(address[0] if isinstance(address, tuple) else address)
            if name and not name.startswith((*LOCAL, "/")):
                with outside.open("a") as notes:
                    notes.write(f"{event} {name}\n")
        elif (event in CHANGES or (event == "open" and isinstance(given[2], int) and given[2] & WRITES)) and str(
            given[0]
        ).startswith(where):
            changes += 1
            if changes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    from shpeft.cli.main import main

    code: Any = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    counted = changes
    log.with_suffix(".changes").write_text(str(counted))
    sys.exit(code)


def finished(arguments: Sequence[str], log: Path, root: Path) -> int:
    """Run a command to its end; return the number of its changes to files."""
    child = command(arguments, log, root)
    child.join()
    assert child.exitcode == 0, log.read_text()[-2000:]
    return int(log.with_suffix(".changes").read_text())

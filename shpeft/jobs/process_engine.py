"""A process for each command: a run that takes all memory, or ends its process, leaves the app alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from shpeft.jobs.worker import WATCHER


class ProcessEngine:
    """Carry out each command in a process of its own on this computer.

    Examples:
        >>> ProcessEngine().waiting
        'Starting a process'
    """

    waiting = "Starting a process"
    schedules = False

    def submit(self, command: Sequence[str], device: str) -> "subprocess.Popen[bytes]":
        """Begin a process; the worker of a run ends by itself if this process ends."""
        # A session of its own: Control-C in the terminal goes to this process alone, which decides what it means.
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {WATCHER: str(os.getpid())},
        )

    def outcome(self, ticket: "subprocess.Popen[bytes]") -> str | None:
        """Return None while the process lives; then the signal or exit code that ended it, empty for success."""
        code = ticket.poll()
        if code is None or code == 0:
            return None if code is None else ""
        if code > 0:
            return f"exit code {code}"
        memory = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
        return f"killed by signal {-code}{memory}"

    def kill(self, ticket: "subprocess.Popen[bytes]") -> None:
        """Kill the process and those that it began, and wait for its end."""
        if ticket.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(ticket.pid, signal.SIGKILL)
            else:
                ticket.kill()
            ticket.wait()

"""Commands on the computers of a Ray cluster, which reach the folders of runs and images by the same paths.

No code is sent: every computer runs its own installed shpeft, of the same version.
"""

import os
import runpy
import sys
import threading
from collections.abc import Sequence
from typing import Any

from shpeft import __version__
from shpeft.errors import MissingExtra, RunError

RETRIES = 3
"""How often Ray gives a command to another computer after one is gone; a run resumes from its checkpoint."""


class RayEngine:
    """Carry out commands on a Ray cluster: each takes a graphics card, or a computer where there is none."""

    waiting = "Waiting for a computer of the cluster"
    schedules = True

    def __init__(self, address: str) -> None:
        """Prepare; :meth:`submit` connects.

        Args:
            address: ``ray://HOST:PORT``, or ``auto`` for the cluster that this computer is part of.

        Raises:
            MissingExtra: Ray is not installed.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MissingExtra(
                "The engine ray needs the package ray, which is not installed. Install it: pip install 'shpeft[ray]'"
            ) from None
        self._ray: Any = ray
        self._address = address
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Connect to the cluster, once.

        Raises:
            RunError: nothing answers at the address.
        """
        with self._lock:
            if self._ray.is_initialized():
                return
            try:
                self._ray.init(address=self._address, log_to_driver=False)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                where = "this computer is part of no Ray cluster" if self._address == "auto" else self._address
                raise RunError(
                    f"No Ray cluster answers: {where} ({type(error).__name__}). Begin one with 'ray start --head', or "
                    "name one: --engine ray://HOST:10001."
                ) from None

    def submit(self, command: Sequence[str], device: str) -> Any:
        """Queue the command on the cluster."""
        self.connect()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        processors = int(min((node["CPU"] for node in nodes if node.get("CPU")), default=1))
        cards = 1 if device != "cpu" and any(node.get("GPU") for node in nodes) else 0
        task = self._ray.remote(max_retries=RETRIES, num_gpus=cards, num_cpus=1 if cards else processors)(_run_module)
        return task.remote(list(command), __version__)

    def outcome(self, ticket: Any) -> str | None:
        """Return None while the command waits or is carried out; then the cause of its end, empty for success."""
        try:
            ready, _ = self._ray.wait([ticket], timeout=0)
            if not ready:
                return None
            self._ray.get(ticket)
            return ""
        except self._ray.exceptions.RayTaskError as error:
            return str(error.cause)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            return type(error).__name__

    def kill(self, ticket: Any) -> None:
        """End the task at once, wherever it runs; Ray does not repeat it."""
        self._ray.cancel(ticket, force=True)


def _run_module(command: list[str], version: str) -> None:
    """Run a module with arguments on a computer of the cluster, as ``python -m`` does."""
    if version != __version__:
        raise RunError(f"This computer has shpeft {__version__}, the one that began the work {version}.")
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code:
            raise RunError(f"exit code {error.code}") from None

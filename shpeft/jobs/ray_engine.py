"""Runs on the computers of a Ray cluster, which reach the runs' folder by the same path.

No code is sent: every computer runs its own installed shpeft, of the same version.
"""

import os
import threading
from pathlib import Path
from typing import Any

from shpeft import __version__
from shpeft.errors import MissingExtra, RunError

RETRIES = 3
"""How often Ray gives a run to another computer after one is gone; the run resumes from its checkpoint."""


class RayEngine:
    """Carry out runs on a Ray cluster: each takes one graphics card, or one computer where there is no card."""

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

    def submit(self, folder: Path, device: str) -> Any:
        """Queue the run on the cluster."""
        self.connect()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        processors = int(min((node["CPU"] for node in nodes if node.get("CPU")), default=1))
        cards = 1 if device != "cpu" and any(node.get("GPU") for node in nodes) else 0
        task = self._ray.remote(max_retries=RETRIES, num_gpus=cards, num_cpus=1 if cards else processors)(_work)
        return task.remote(str(folder), __version__)

    def outcome(self, ticket: Any) -> str | None:
        """Return None while the run waits or is worked on; then the cause of its end, empty for success."""
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


def _work(folder: str, version: str) -> None:
    """Carry out a run on a computer of the cluster."""
    from shpeft.jobs.worker import work

    if version != __version__:
        raise RunError(f"This computer has shpeft {__version__}, the one that began the run {version}.")
    if not Path(folder).is_dir():
        raise RunError("This computer does not reach the run's folder. Keep runs on a disk that all computers share.")
    work(Path(folder))

"""The app on a free port, and a Chromium that talks to nobody else. Used by the tests and by tools/screenshots.py."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WATCHMAN = Path(__file__).resolve().parent / "watchman"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
]


class Server:
    """The app in a process of its own, started in another folder than the checkout; it can be killed and come back.

    Attributes:
        address: where it answers, also after it was killed and started again.
        runs: where it keeps runs.
        log: what it prints, at its most talkative.
        outside: a line for each address beyond this computer that it wanted.
    """

    def __init__(self, place: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.runs, self.log, self.outside = place / "runs", place / "server.log", place / "outside.txt"
        self.runs.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        dropped = ("STREAMLIT_", "HF_HUB_OFFLINE")  # as on a computer where nothing was set
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment |= {"SHPEFT_RUNS": str(self.runs), "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", "2")}
        paths = [str(WATCHMAN), str(ROOT), environment.get("PYTHONPATH")]
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OUTSIDE": str(self.outside)}
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
        command += ["--server.port", str(self.port), "--logger.level", "debug"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=self.runs, env=environment, stdout=out, stderr=out)
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log.read_text(errors='replace')}")
            try:
                with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the server did not answer within a minute")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl+C would."""
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def serving(place: Path) -> Iterator[str]:
    """The app's address while it runs and keeps everything in a folder."""
    server = Server(place)
    try:
        server.start()
        yield server.address
    finally:
        server.stop()


def executable() -> str | None:
    """The system's Chromium, or None for Playwright's own."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)

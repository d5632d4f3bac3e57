"""The app on a free port, and a Chromium that contacts nobody else; also for tools/screenshots.py."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage

ROOT = Path(__file__).resolve().parents[2]
WATCHMAN = Path(__file__).resolve().parent / "watchman"
A_WHILE = 120_000
"""Timeout in milliseconds on a busy computer."""

TOKEN = secrets.token_urlsafe(16)
"""The token of the servers that this process launches."""

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
    """The app in its own process and outside the checkout; it can be killed and started again.

    Attributes:
        address: the same after a restart.
        runs: the folder of runs.
        log: its output at debug level.
        outside: one line for each outside address that it contacted.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        """Prepare a server; with flags of ``shpeft ui``, one that this command starts."""
        self.flags = flags
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.runs, self.log, self.outside = folder / "runs", folder / "server.log", folder / "outside.txt"
        self.runs.mkdir(parents=True, exist_ok=True)

    def launch(self) -> None:
        """Launch it and wait until it answers."""
        dropped = ("STREAMLIT_", "HF_HUB_OFFLINE")  # as on a computer without these variables
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment |= {"SHPEFT_RUNS": str(self.runs), "OMP_NUM_THREADS": environment.get("OMP_NUM_THREADS", "2")}
        paths = [str(WATCHMAN), str(ROOT), environment.get("PYTHONPATH")]
        environment |= {"SHPEFT_TOKEN": TOKEN}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OUTSIDE": str(self.outside)}
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
        command += ["--server.port", str(self.port), "--logger.level", "debug"]
        if self.flags:
            command = [sys.executable, "-m", "shpeft", "ui", "--port", str(self.port), *self.flags]
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
        """Kill it, like a power cut."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it, like Ctrl+C."""
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run the app with its runs in this folder; yield its address."""
    server = Server(folder)
    try:
        server.launch()
        yield server.address
    finally:
        server.stop()


def new_context(browser: "Browser", address: str, **options: Any) -> "BrowserContext":
    """Return a new browser session that has the server's token."""
    context = browser.new_context(**options)
    context.add_cookies([{"name": f"shpeft_token_{urlsplit(address).port}", "value": TOKEN, "url": address}])
    return context


def breaches(message: "ConsoleMessage") -> list[str]:
    """Return the message if it says that a page wanted what its content policy forbids."""
    return [message.text] if "Content Security Policy" in message.text else []

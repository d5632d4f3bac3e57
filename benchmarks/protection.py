"""The share of a start that goes into the modules that protect: bounded readers, access control, accounts.

The time of an import is that of the module alone, without what it imports; the least of several turns counts.
"""

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from harness import arguments, publish, table

ROOT = Path(__file__).resolve().parents[1]

SUPPORT = ("admission", "allowed_folders", "bounded_files", "isolation", "limits", "network", "safe_zip", "spreadsheet")
APP = ("access", "identity", "sent_media", "widgets.account", "widgets.guard")
PROTECTION = {f"shpeft.support.{name}" for name in SUPPORT} | {f"app.{name}" for name in APP}
"""The modules that only protect; a part of `shpeft.support` is used for other things, too."""

SERVER = ("streamlit.web.cli", "app.access", "app.sent_media", "app.widgets.guard", "app.widgets.session")
STARTS = {
    "`shpeft --help`": ["-m", "shpeft", "--help"],
    "the app's server, before its first page": ["-c", f"import {', '.join(SERVER)}"],
}
"""What starts, and the arguments of Python that import the same."""

IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def imports(options: list[str], repeats: int) -> dict[str, float]:
    """Return the milliseconds that each module takes by itself, the least of several starts."""
    least: dict[str, float] = defaultdict(lambda: float("inf"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(repeats):
        command = [sys.executable, "-X", "importtime", *options]
        log = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        for microseconds, name in IMPORT.findall(log):
            least[name] = min(least[name], int(microseconds) / 1000)
    return least


def measure(repeats: int) -> str:
    """Return the section's text."""
    rows = []
    for title, options in STARTS.items():
        times = imports(options, repeats)
        protecting = {name: time for name, time in times.items() if name in PROTECTION}
        whole, part = sum(times.values()), sum(protecting.values())
        rows.append([title, len(protecting), f"{whole:.0f}", f"{part:.1f}", f"{whole / (whole - part):.3f}"])
    return (
        f"Milliseconds of imports, of each module the least of {repeats} starts. The last column is the start with the "
        "modules that protect over the start without them.\n\n"
        + table(("start", "modules that protect", "all imports", "theirs", "ratio"), rows)
    )


def main() -> None:
    """Read the options, measure and print."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    publish("What protection adds to a start", measure(options.repeats), options.write)


if __name__ == "__main__":
    main()

"""Make sure that the browser tests find a Chromium: look for one, else install one the way this system does it.

Run by ``make test``. Where neither works the browser tests are skipped and say so.
"""

import os
import platform
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def found() -> str | None:
    """The path of a browser that is already there."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> None:
    """Debian's package where we may install packages, Playwright's own build elsewhere."""
    if shutil.which("apt-get") and platform.system() == "Linux" and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
    else:
        environment = None
        commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    for command in commands:
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            print("No browser could be installed: the browser tests will be skipped.", file=sys.stderr)
            return


if __name__ == "__main__":
    if found() is None:
        install()

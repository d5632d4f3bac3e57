"""Find a Chromium for the browser tests, or install one.

Run by ``make test``. Where neither works, the browser tests are skipped with a reason.
"""

import os
import platform
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Return the path of an installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> None:
    """Install Debian's package as root on a Debian system, and Playwright's build elsewhere."""
    if shutil.which("apt-get") and platform.system() == "Linux" and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
    else:
        environment = None
        commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    for command in commands:
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            print(
                "No browser could be installed, so the browser tests are skipped. Install Chromium to run them.",
                file=sys.stderr,
            )
            return


if __name__ == "__main__":
    if find_browser() is None:
        install()

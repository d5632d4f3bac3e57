"""Install a Chromium for the browser tests where none is found.

Run by ``make test-browser``. Where it does not work, the browser tests are skipped with a reason.
"""

import os
import platform
import shutil
import subprocess
import sys

from shpeft.support.headless_browser import find_browser


def install() -> None:
    """Install Debian's package as root on a Debian system, and Playwright's build elsewhere."""
    if shutil.which("apt-get") and platform.system() == "Linux" and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium-headless-shell"]]
    else:
        environment = None
        commands = [[sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]]
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

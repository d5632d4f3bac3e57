"""Find the app's script and start it with the app's own Streamlit configuration."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from shpeft.errors import ConfigError


def app_file() -> Path:
    """Return the app's script: in the package, or beside it in a checkout.

    Raises:
        ConfigError: the installation has no app.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_app" / "app", package.parent / "app"):
        if (folder / "main.py").is_file():
            return folder / "main.py"
    raise ConfigError("The app is missing from this installation: reinstall shpeft, or use a checkout.")


def settings(main: Path, taken: Sequence[str] = ()) -> list[str]:
    """Return the app's configuration as flags, which the environment and the working directory cannot override.

    Args:
        main: the app's script.
        taken: flags that are given otherwise.

    Raises:
        ConfigError: the configuration is missing or damaged.
    """
    file = main.parent / ".streamlit" / "config.toml"
    try:
        sections = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The app's configuration is missing or damaged ({error}): reinstall shpeft.") from None
    flags = []
    for section, values in sections.items():
        for key, value in values.items():
            flag = f"--{section}.{key}"
            if flag in taken or isinstance(value, dict):
                continue
            for item in value if isinstance(value, list) else [value]:
                flags += [flag, str(item).lower() if isinstance(item, bool) else str(item)]
    return flags


def start_app(command: Sequence[str]) -> None:
    """Replace this process with the command, so that stopping it stops the app; on Windows, wait for the command."""
    if os.name == "posix":
        os.execv(command[0], list(command))
    sys.exit(subprocess.call(command))

"""Where the app is and how it is started, with its own settings in force."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from shpeft.errors import ConfigError


def app_file() -> Path:
    """The app's script: in the package, or beside it in a checkout.

    Raises:
        ConfigError: there is none.
    """
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "_app", here.parent / "app"):
        if (folder / "main.py").is_file():
            return folder / "main.py"
    raise ConfigError("The app is missing from this installation: reinstall shpeft, or use a checkout.")


def settings(main: Path, taken: Sequence[str] = ()) -> list[str]:
    """The app's configuration as flags: nothing in the environment or the working directory can override those.

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
            if flag not in taken and not isinstance(value, dict | list):
                flags += [flag, str(value).lower() if isinstance(value, bool) else str(value)]
    return flags


def start(command: Sequence[str]) -> None:
    """Become the command, so that whoever stops this process stops the app; where that cannot be, wait for it."""
    if os.name == "posix":
        os.execv(command[0], list(command))
    sys.exit(subprocess.call(command))

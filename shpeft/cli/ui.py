"""``shpeft ui``: the app on this machine."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import app_server
from shpeft.runs import runs_root
from shpeft.support.allowed_folders import VARIABLE


def ui(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65535))] = 8501,
    allow_folder: list[Path] | None = None,
) -> None:
    """Start the app, on this machine only, and print its address.

    Args:
        port: The port on this machine.
        allow_folder: A folder that the app may read images, weights and tables from, beside those dropped on its pages;
            repeatable. Without it, every folder that you may read.
    """
    if allow_folder:
        folders = [str(folder.expanduser().resolve()) for folder in (*allow_folder, runs_root())]
        os.environ[VARIABLE] = os.pathsep.join(folders)
    flags = ["--server.port", str(port)]
    main = app_server.app_file()
    app_server.start_app(
        [sys.executable, "-m", "streamlit", "run", str(main), *app_server.settings(main, flags), *flags]
    )

"""The command line: a file for each verb, ``shpeft finetune`` to ``shpeft ui``."""

from shpeft.cli.main import app, main

__all__ = ["app", "main"]

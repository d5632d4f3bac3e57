"""The command line: one command a verb, ``shpeft finetune`` to ``shpeft ui``."""

from shpeft.cli.commands import app, main

__all__ = ["app", "main"]

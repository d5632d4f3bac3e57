"""The command line: ``shpeft finetune | importance | overlap | evaluate | diagnose | datasets | backbones | ui``."""

from shpeft.cli.commands import app, main

__all__ = ["app", "main"]

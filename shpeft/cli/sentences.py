"""Expected errors as sentences, never as tracebacks."""

from typing import Any

import typer
from typer.core import TyperGroup

from shpeft.errors import Cancelled, ShpeftError, notes


class Sentences(TyperGroup):
    """Commands whose expected errors are sentences on standard error, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out a command."""
        try:
            return super().invoke(ctx)
        except ShpeftError as error:
            typer.echo("\n".join([str(error), *(f"  {note}" for note in notes(error))]), err=True)
            raise typer.Exit(2) from None
        except (Cancelled, KeyboardInterrupt):
            typer.echo("Cancelled.", err=True)
            raise typer.Exit(130) from None

"""The ``shpeft`` command: its verbs, and its errors as sentences.

Verbs import what they need when they run, so that help appears at once.
"""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, Parameter
from cyclopts.exceptions import CycloptsError
from pydantic import ValidationError

import shpeft
from shpeft.cli import compare, runs
from shpeft.cli.audit import audit
from shpeft.cli.backbones import backbones
from shpeft.cli.cache import cache
from shpeft.cli.calibrate import calibrate
from shpeft.cli.coordinator import coordinator
from shpeft.cli.datasets import datasets
from shpeft.cli.diagnose import diagnose
from shpeft.cli.evaluate import evaluate
from shpeft.cli.export import export
from shpeft.cli.finetune import finetune
from shpeft.cli.importance import importance
from shpeft.cli.overlap import overlap
from shpeft.cli.serve import serve
from shpeft.cli.site import site
from shpeft.cli.sweep import sweep
from shpeft.cli.ui import ui
from shpeft.cli.watch import watch
from shpeft.config import RunConfig
from shpeft.config.documents import sentences
from shpeft.errors import Cancelled, ShpeftError, notes_of
from shpeft.support.memory import as_out_of_memory

app = App(
    "shpeft",
    help="Adapt a large vision model to a diagnosis task by training about 0.01 % of its weights.\n\n" + shpeft.NOTICE,
    version=shpeft.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative_bool=(), negative_iterable=(), allow_repeating=True),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for verb in (
    finetune,
    sweep,
    importance,
    overlap,
    evaluate,
    calibrate,
    diagnose,
    export,
    datasets,
    backbones,
    cache,
    audit,
    serve,
    watch,
    coordinator,
    site,
    ui,
):
    app.command(verb)
app.command(compare.app)
app.command(runs.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Expected errors are sentences on standard error.

    Args:
        arguments: the command; None: that of this process.

    Raises:
        SystemExit: 2 for an error, 130 for a cancellation.
    """
    try:
        app(arguments, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        cause = error.__context__
        _fail(sentences(cause, RunConfig) if isinstance(cause, ValidationError) else str(error))
    except ShpeftError as error:
        _fail("\n".join([str(error), *(f"  {note}" for note in notes_of(error))]))
    except (Cancelled, KeyboardInterrupt):
        _fail("Cancelled.", 130)
    except (MemoryError, RuntimeError) as error:
        if (starved := as_out_of_memory(error)) is None:
            raise
        _fail(str(starved))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = 2) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)

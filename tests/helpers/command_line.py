"""Running the command line inside a test."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from shpeft.cli import main

TINY = """\
backbone: {name: test_vit, weights: random, image_size: 32}
dataset: {source: "phantom:fundus?n=36&size=32"}
selection: {budget: 40, images: 16, scope: matrices}
training: {epochs: 2, batch_size: 8}
device: cpu
"""


class _Tee(io.StringIO):
    """A stream whose text also goes to another one."""

    def __init__(self, other: io.StringIO) -> None:
        super().__init__()
        self._other = other

    def write(self, text: str) -> int:
        self._other.write(text)
        return super().write(text)


@dataclass(frozen=True)
class Result:
    """What a command printed: standard output, standard error, and both in their order."""

    stdout: str
    stderr: str
    output: str


def shpeft(*arguments: Any, code: int = 0) -> Result:
    """Run a command; a bug raises, and an error is a sentence without a traceback."""
    output = io.StringIO()
    stdout, stderr = _Tee(output), _Tee(output)
    exit_code: object = 0
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            exit_code = end.code
    assert exit_code == code, output.getvalue()
    assert "Traceback" not in output.getvalue()
    return Result(stdout.getvalue(), stderr.getvalue(), output.getvalue())

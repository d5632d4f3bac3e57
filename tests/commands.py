"""Running the command line inside a test."""

from typer.testing import CliRunner

from shpeft.cli import app

TINY = """\
backbone: {name: test_vit, weights: random, image_size: 32}
dataset: {source: "phantom:fundus?n=48&size=32"}
selection: {budget: 40, images: 16}
training: {epochs: 2, batch_size: 8}
device: cpu
"""


def shpeft(*arguments, code=0):
    """Run a command; a bug raises, an error is a sentence without a traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result

"""The example run that ships with shpeft: read-only, and never among the user's own runs.

``tools/example_run.py`` makes it from the embedded backbone and a phantom.
"""

from functools import lru_cache
from pathlib import Path

from shpeft.errors import RunError

EXAMPLE = "example"
"""The name of the example; a run of the user's own with this name takes precedence."""


@lru_cache(maxsize=1)
def example_path() -> Path | None:
    """Return the folder of the example, in the package or in the ``assets`` of a checkout; None if it is missing."""
    package = Path(__file__).resolve().parents[1]
    folders = (package / "assets" / EXAMPLE, package.parent / "assets" / EXAMPLE)
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def is_example(folder: Path) -> bool:
    """Check whether a run folder is the example that ships with shpeft."""
    return example_path() is not None and folder.resolve() == example_path()


def refuse_example(folder: Path) -> None:
    """Check that a run may be changed.

    Raises:
        RunError: it is the example.
    """
    if is_example(folder):
        raise RunError("The example that ships with shpeft cannot be changed. Train a run of your own for that.")

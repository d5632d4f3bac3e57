"""Whether decoders that may end their process run in a child of it."""

import os

VARIABLE = "SHPEFT_ISOLATE_DECODER"
"""Set, GDCM decodes in a child."""


def isolate() -> None:
    """Have GDCM decode in a child from now on, in this process and those that it starts."""
    os.environ[VARIABLE] = "1"


def is_isolated() -> bool:
    """Return whether GDCM decodes in a child."""
    return bool(os.environ.get(VARIABLE))

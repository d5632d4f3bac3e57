"""Training across hospitals by Flower: a SuperLink at the coordinator, and a SuperNode at each site.

No code travels: both ends run their own installed shpeft, and a message is the bytes of ``federated.messages``.
Flower's telemetry is off, and sites only make connections to the coordinator.
"""

import os
from importlib.util import find_spec

from shpeft.errors import MissingExtra


def prepare() -> None:
    """Turn off Flower's telemetry, before Flower is imported, and check that it is installed.

    Raises:
        MissingExtra: it is not.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    if find_spec("flwr") is None:
        raise MissingExtra(
            "Training across hospitals needs Flower, which is not installed. Install it in an environment of its own, "
            "since it needs older versions of several packages: pip install 'shpeft[federated]'"
        )

"""``shpeft serve``: a run's model for other programs on this machine."""

import os
import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import options, output
from shpeft.runs import RunFolder
from shpeft.support.isolation import isolate


def serve(
    run: Path,
    /,
    *more: Path,
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65535))] = 8600,
    per_minute: Annotated[int, Parameter(validator=Number(gte=1))] = 60,
    device: options.Device = "auto",
) -> None:
    """Answer HTTP requests of this machine, and print the address and the token.

    The token is that of the environment's SHPEFT_TOKEN, or a new one.

    Args:
        run: A finished run folder.
        more: More of them; requests choose one by its name.
        port: The port on this machine.
        per_minute: How many requests a minute are answered.
    """
    import uvicorn

    from shpeft.service.api import create_app
    from shpeft.service.worker import Worker

    isolate()
    token = os.environ.pop("SHPEFT_TOKEN", "") or secrets.token_urlsafe(24)
    workers = [Worker(RunFolder.open(path), device) for path in (run, *more)]
    app = create_app(workers, token, per_minute=per_minute)
    print(f"shpeft: http://127.0.0.1:{port}/openapi.json\nAuthorization: Bearer {token}", flush=True)
    output.notice()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)

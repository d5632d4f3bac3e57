"""``shpeft watch``: answer each new series of an archive."""

import signal
import threading
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import options, output
from shpeft.config.schema import SeriesRule
from shpeft.runs import RunFolder
from shpeft.support.isolation import isolate


def watch(
    run: Path,
    archive: str,
    /,
    *,
    state: Path,
    series_rule: SeriesRule = "highest-risk",
    every: Annotated[float, Parameter(validator=Number(gt=0))] = 10.0,
    device: options.Device = "auto",
) -> None:
    """Answer each new series of a DICOMweb archive, and store the results beside it, until Control-C.

    Credentials come from SHPEFT_ARCHIVE_USER and SHPEFT_ARCHIVE_PASSWORD, or SHPEFT_ARCHIVE_TOKEN, and are not stored.

    Args:
        run: A finished run folder.
        archive: The address of the archive's DICOMweb service, such as http://127.0.0.1:8042/dicom-web.
        state: A folder that remembers what is done, so that a stopped watcher continues.
        series_rule: How a series is answered, see shpeft diagnose.
        every: Seconds between two looks; a series that has not grown in between is complete.
    """
    from shpeft.service.archive import Archive
    from shpeft.service.watch import Event, Watcher
    from shpeft.service.worker import Worker

    isolate()
    client = Archive(archive)
    watcher = Watcher(client, Worker(RunFolder.open(run), device), state, series_rule)
    stopped = threading.Event()

    def report(event: Event) -> None:
        print(f"{event.id}: {event.kind}{f'. {event.sentence}' if event.sentence else ''}", flush=True)

    previous = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    output.notice()
    try:
        watcher.run(every, stopped.is_set, report)
    finally:
        signal.signal(signal.SIGTERM, previous)
        watcher.close()

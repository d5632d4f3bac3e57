"""Many images at once: a folder, a zip or a list of files to a CSV with a row a file, which can be gone on with."""

from shpeft.batch.folder import BatchFolder, list_batches, new_batch
from shpeft.batch.rows import summary
from shpeft.batch.running import BatchResult, diagnose_batch, names_csv
from shpeft.batch.sources import Entry, Source, open_source
from shpeft.batch.worker import BatchSnapshot, BatchWorker, worker

__all__ = [
    "BatchFolder",
    "BatchResult",
    "BatchSnapshot",
    "BatchWorker",
    "Entry",
    "Source",
    "diagnose_batch",
    "list_batches",
    "names_csv",
    "new_batch",
    "open_source",
    "summary",
    "worker",
]

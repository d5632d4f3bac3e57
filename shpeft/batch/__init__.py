"""Diagnose many images: a folder, a zip or single files to a CSV with a row per case, which can be resumed."""

from shpeft.batch.csv_rows import summary
from shpeft.batch.diagnose import BatchResult, diagnose_batch, names_csv
from shpeft.batch.folder import BatchFolder, list_batches, new_batch
from shpeft.batch.inputs import Entry, Source, open_source
from shpeft.batch.series import Series, SeriesSource, by_series
from shpeft.batch.worker import BatchSnapshot, BatchWorker, worker

__all__ = [
    "BatchFolder",
    "BatchResult",
    "BatchSnapshot",
    "BatchWorker",
    "Entry",
    "Series",
    "SeriesSource",
    "Source",
    "by_series",
    "diagnose_batch",
    "list_batches",
    "names_csv",
    "new_batch",
    "open_source",
    "summary",
    "worker",
]

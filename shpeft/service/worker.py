"""One model, and the one thread that may use it."""

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar

from shpeft.batch import open_source
from shpeft.batch.series import Series, list_series
from shpeft.batch.series_rules import SeriesDiagnosis, diagnose_series
from shpeft.config.schema import SeriesRule
from shpeft.diagnosis import case_id, diagnose
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import default_method, explain_and_check
from shpeft.images import Decoding, open_image
from shpeft.pipeline import LoadedRun, load_run
from shpeft.reports.dicom import DicomResults, diagnose_dicom, results_with_report
from shpeft.reports.dicom.made_by import Model
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent

T = TypeVar("T")


class Worker:
    """A loaded run whose work is done one piece after another, so that every answer has the same bits.

    Args:
        run: the finished run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    def __init__(self, run: RunFolder, device: str = "auto") -> None:
        self.run, self.loaded = run, load_run(run, device)
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="shpeft-service")
        self._waiting, self._lock = 0, Lock()

    @property
    def waiting(self) -> int:
        """Pieces of work that are not done."""
        return self._waiting

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Queue a piece of work."""
        with self._lock:
            self._waiting += 1
        future = self.executor.submit(work)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1

    def facts(self) -> dict[str, Any]:
        """Return what identifies the model."""
        model = Model.of_run(self.run)
        return {
            "name": model.name,
            "backbone": model.backbone,
            "classes": list(self.loaded.backbone.classes),
            "fingerprints": {"base": model.base, "delta": model.delta, "dataset": model.dataset},
        }

    # -- in the worker thread

    def answer(self, data: bytes) -> dict[str, Any]:
        """Diagnose an image."""
        if zipfile.is_zipfile(io.BytesIO(data)):
            raise DiagnosisError("A zip is diagnosed as DICOM series: say by which rule (series_rule).")
        diagnosis = diagnose(
            self.loaded.backbone,
            data,
            decoding=self.loaded.decoding,
            reliability=self.loaded.reliability,
            ood_detector=self.loaded.ood_detector,
        )
        return self._entry(case_id(data), diagnosis.to_dict())

    def answer_series(self, data: bytes, rule: SeriesRule) -> list[dict[str, Any]]:
        """Diagnose each series of a zip."""
        with open_source([data]) as source:
            listed = list_series(source).series
            answers = [diagnose_series(self.loaded, series, rule) for series in listed]
        return [self._entry(f"series-{number}", answer.to_dict()) for number, answer in enumerate(answers, start=1)]

    def results(self, data: bytes) -> DicomResults:
        """Diagnose a DICOM file, and return its results for the archive."""
        return diagnose_dicom(self.loaded, self.run, data)[1]

    def _entry(self, name: str, answer: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = to_jsonable({"id": name, "run": self.run.name, **answer})
        return entry


def series_results(
    loaded: LoadedRun,
    run: RunFolder,
    series: Series,
    answered: SeriesDiagnosis,
    *,
    method: str | None = None,
    target: str | None = None,
    note: str = "",
    finding: str = "",
    seed: int = 0,
    progress: Progress = silent,
) -> DicomResults:
    """Return the results of a series in DICOM; they refer to its key slice, whose map they have.

    Args:
        loaded: the model.
        run: its run folder.
        series: the slices.
        answered: their diagnosis.
        method: a saliency method; None: the model's default.
        target: the class to explain; None: the one that the answer is about.
        note, finding: for the report.
        seed: of the saliency method.
        progress: the progress callback.
    """
    key = series.slices[answered.key]
    data, decoding = key.entry.read(), Decoding(loaded.decoding.window, key.header.frame)
    explained = target or answered.diagnosis.target
    checked = explain_and_check(
        loaded.backbone,
        loaded.backbone.transform(open_image(data, decoding)),
        explained,
        method or default_method(loaded.backbone),
        seed=seed,
        progress=progress,
    )
    saliency = None if checked.sanity is None else checked.saliency
    made = results_with_report(
        run,
        data,
        replace(answered.diagnosis, saliency=saliency, target=explained),
        decoding=decoding,
        sanity=checked.sanity,
        note="\n".join([*answered.sentences, *([note] if note else [])]),
        finding=finding,
        remarks=answered.sentences,
    )
    return made if saliency is not None else replace(made, omitted=(checked.withheld, *made.omitted))

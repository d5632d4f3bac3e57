"""Diagnose a DICOM file, and make all results that go back into its study."""

from dataclasses import replace

from shpeft.diagnosis import Diagnosis, case_id, diagnose
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import Sanity, check_map, default_method
from shpeft.images import Decoding, open_image
from shpeft.pipeline import LoadedRun
from shpeft.reports.dicom.results import DicomResults, dicom_results
from shpeft.reports.dicom.source import read_source
from shpeft.reports.html import report
from shpeft.reports.pdf import as_pdf
from shpeft.runs import RunFolder
from shpeft.support.headless_browser import unavailable_reason
from shpeft.support.progress import Progress, silent
from shpeft.tasks import MultiLabel


def diagnose_dicom(
    loaded: LoadedRun,
    run: RunFolder,
    data: bytes,
    *,
    method: str | None = None,
    target: str | None = None,
    note: str = "",
    finding: str = "",
    remarks: tuple[str, ...] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Diagnosis, DicomResults]:
    """Diagnose a DICOM file with a checked map, and return the diagnosis and its results for the archive.

    Args:
        loaded: the model.
        run: its run folder.
        data: the DICOM file.
        method: a saliency method; None: the model's default.
        target: the class to explain; None: the one that the answer is about.
        note, finding: for the report, see :func:`shpeft.reports.report`.
        remarks: more sentences for the structured report.
        seed: of the saliency method.
        progress: the progress callback.

    Raises:
        DiagnosisError: the results would belong to no study, see :func:`dicom_results`.
        UnreadableImage: not an image, or a damaged one.
        MissingExtra: pydicom or highdicom is not installed.
    """
    read_source(data)  # before any work: without a study, there is nowhere to file results
    if isinstance(loaded.backbone.task, MultiLabel):
        raise DiagnosisError(
            f"The results in DICOM hold one answer, and the run {run.name} has an answer to each of several findings. "
            "Make the report instead."
        )
    image = open_image(data, loaded.decoding)
    diagnosis = diagnose(
        loaded.backbone,
        image,
        method=method or default_method(loaded.backbone),
        target=target,
        reliability=loaded.reliability,
        ood_detector=loaded.ood_detector,
        seed=seed,
        progress=progress,
    )
    assert diagnosis.saliency is not None
    inputs = loaded.backbone.transform(image)
    checked = check_map(loaded.backbone, inputs, diagnosis.saliency, seed=seed, progress=progress)
    shown = diagnosis if checked.sanity is not None else replace(diagnosis, saliency=None)
    results = results_with_report(
        run,
        data,
        shown,
        decoding=loaded.decoding,
        sanity=checked.sanity,
        note=note,
        finding=finding,
        remarks=remarks,
    )
    if checked.sanity is None:
        results = replace(results, omitted=(checked.withheld, *results.omitted))
    return shown, results


def results_with_report(
    run: RunFolder,
    data: bytes,
    diagnosis: Diagnosis,
    *,
    decoding: Decoding | None = None,
    sanity: Sanity | None = None,
    note: str = "",
    finding: str = "",
    remarks: tuple[str, ...] = (),
) -> DicomResults:
    """Return the results of a diagnosis for the archive, with the report as PDF where a browser can print it.

    Args: as those of :func:`dicom_results` and :func:`shpeft.reports.report`.
    """
    missing = unavailable_reason()
    pdf = b""
    if not missing:
        pixels = open_image(data, decoding or Decoding(run.config.dataset.window, run.config.dataset.frame))
        html = report(diagnosis, pixels, run, case=case_id(data), sanity=sanity, note=note, finding=finding)
        pdf = as_pdf(html)
    results = dicom_results(diagnosis, data, run, decoding=decoding, sanity=sanity, pdf=pdf, remarks=remarks)
    if missing:
        results = replace(results, omitted=(*results.omitted, f"There is no report as PDF. {missing}"))
    return results

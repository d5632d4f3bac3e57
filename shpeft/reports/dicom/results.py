"""All results of one diagnosis in DICOM, and their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile

from shpeft.diagnosis import Diagnosis
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency import Sanity
from shpeft.images import Decoding, Pixels, open_pixels
from shpeft.reports.dicom.document import encapsulated_pdf
from shpeft.reports.dicom.made_by import Model
from shpeft.reports.dicom.presentation_state import presentation_state
from shpeft.reports.dicom.saliency_images import parametric_map, secondary_capture
from shpeft.reports.dicom.source import Source, check_available, quiet, read_source
from shpeft.reports.dicom.structured_report import structured_report
from shpeft.runs import RunFolder
from shpeft.support.atomic_files import write_atomic

if TYPE_CHECKING:
    from pydicom import Dataset


NO_GEOMETRY = (
    "There is no Parametric Map: the file does not say where the image is in the patient, which such a map must. The "
    "picture with the map is there."
)

NO_WINDOW = "There is no presentation state: a color image has no window."


@dataclass(frozen=True, eq=False)
class DicomResults:
    """Results of one diagnosis in DICOM.

    Attributes:
        files: the content of each file by its kind.
        omitted: what is not among them, and why: one sentence each.
    """

    files: Mapping[str, bytes]
    omitted: tuple[str, ...] = ()

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write the files as ``NAME_KIND.dcm``; return their paths."""
        return [write_atomic(folder / f"{name}_{kind}.dcm", data) for kind, data in self.files.items()]

    def as_zip(self) -> bytes:
        """Return the files as a zip: ``KIND.dcm`` each, and why others are missing as ``omitted.txt``."""
        buffer = BytesIO()
        with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
            for kind, content in self.files.items():
                archive.writestr(f"{kind}.dcm", content)
            if self.omitted:
                archive.writestr("omitted.txt", "\n".join(self.omitted) + "\n")
        return buffer.getvalue()


def dicom_results(
    diagnosis: Diagnosis,
    data: bytes,
    run: RunFolder,
    *,
    decoding: Decoding | None = None,
    sanity: Sanity | None = None,
    pdf: bytes = b"",
    remarks: tuple[str, ...] = (),
) -> DicomResults:
    """Return a diagnosis as DICOM files of the image's study: new objects in new series, for the archive.

    - ``report``: the answer as a structured report (TID 1500), a number with its unit and the ends of its interval, or
      *No answer* with its reasons and neither class nor number;
    - ``picture`` and ``map``: the saliency map over the image with its legend, and its values as a Parametric Map where
      the file states a geometry; neither if the map's checks withhold it;
    - ``document``: the PDF;
    - ``window``: a presentation state with the window that the model used, for gray images.

    Patient and study are the source's; nothing else of its metadata is repeated.

    Args:
        diagnosis: the result.
        data: the DICOM file that was diagnosed.
        run: the run whose model made the diagnosis.
        decoding: the window and the frame that were diagnosed; by default the run's.
        sanity: the checks of the diagnosis's map.
        pdf: the report, see :func:`shpeft.reports.as_pdf`; empty: none.
        remarks: more sentences for the structured report.

    Raises:
        DiagnosisError: not a DICOM file, one without a study, or another image than the diagnosed one.
        MissingExtra: pydicom or highdicom is not installed.
        UnreadableImage: the file is damaged.
    """
    check_available()
    decoding = decoding or Decoding(run.config.dataset.window, run.config.dataset.frame)
    pixels = open_pixels(data, decoding)
    source, model = read_source(data, pixels.frame), Model.of_run(run)
    if pixels.values.shape[1::-1] != diagnosis.image_size:
        raise DiagnosisError("This is another image than the diagnosed one. Give the file that was diagnosed.")
    with quiet():
        results, omitted = _results(diagnosis, pixels, source, model, sanity, pdf, remarks)
        return DicomResults({kind: _file(result) for kind, result in results.items()}, tuple(omitted))


def _results(
    diagnosis: Diagnosis,
    pixels: Pixels,
    source: Source,
    model: Model,
    sanity: Sanity | None,
    pdf: bytes,
    remarks: tuple[str, ...],
) -> "tuple[dict[str, Dataset], list[str]]":
    """Return each kind of result, and why others are not among them."""
    results, omitted = {"report": structured_report(diagnosis, source, model, remarks)}, list[str]()
    if diagnosis.saliency is not None and sanity is not None and sanity.withheld:
        omitted.append(sanity.withheld)
    elif diagnosis.saliency is not None:
        results["picture"] = secondary_capture(diagnosis, pixels.to_image(), source, model)
        if source.geometry is None:
            omitted.append(NO_GEOMETRY)
        else:
            results["map"] = parametric_map(diagnosis, source, model)
    if pdf:
        results["document"] = encapsulated_pdf(pdf, source, model)
    if pixels.is_color:
        omitted.append(NO_WINDOW)
    else:
        results["window"] = presentation_state(pixels, source, model)
    return results, omitted


def _file(result: "Dataset") -> bytes:
    """Return the file (PS3.10)."""
    buffer = BytesIO()
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

"""The printed report as an Encapsulated PDF (PS3.3 A.45.1)."""

from typing import TYPE_CHECKING

from shpeft.reports.dicom.made_by import Model, finish
from shpeft.reports.dicom.source import PATIENT_AND_STUDY, Source

if TYPE_CHECKING:
    from pydicom import Dataset

TITLE = "Report of a model, for research"


def encapsulated_pdf(pdf: bytes, source: Source, model: Model) -> "Dataset":
    """Return a PDF as a document of the study.

    Args:
        pdf: the report, see :func:`shpeft.reports.as_pdf`.
        source: the diagnosed file.
        model: the model that made the report.
    """
    from highdicom.base import SOPClass
    from pydicom import Dataset
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

    result = SOPClass(
        study_instance_uid=source.tags.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **model.equipment("document"),
    )
    for keyword in PATIENT_AND_STUDY:
        if keyword in source.tags:
            result[keyword] = source.tags[keyword]
    result.ConversionType = "WSD"
    result.BurnedInAnnotation = "YES" if source.tags.get("BurnedInAnnotation") == "YES" else "NO"
    result.AcquisitionDateTime = ""
    result.DocumentTitle, result.MIMETypeOfEncapsulatedDocument = TITLE, "application/pdf"
    result.ConceptNameCodeSequence = []
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.tags.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.tags.SOPInstanceUID
    result.SourceInstanceSequence = [reference]
    result.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    result.EncapsulatedDocumentLength = len(pdf)
    return finish(result, TITLE)

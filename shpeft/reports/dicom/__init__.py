"""A diagnosis as DICOM objects of the study that the image belongs to."""

from shpeft.reports.dicom.diagnose import diagnose_dicom, results_with_report
from shpeft.reports.dicom.results import DicomResults, dicom_results
from shpeft.reports.dicom.source import read_source, refusal

__all__ = [
    "DicomResults",
    "diagnose_dicom",
    "dicom_results",
    "read_source",
    "refusal",
    "results_with_report",
]

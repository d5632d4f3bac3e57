"""The report on the image under diagnosis: one file to save or print."""

from functools import partial

import streamlit as st

from app.views.diagnose import archive, finding, model_tasks
from app.views.diagnose.image import Case
from app.views.diagnose.saliency import Explanation
from shpeft.batch.series_rules import SeriesDiagnosis
from shpeft.diagnosis import Diagnosis
from shpeft.images import Decoding
from shpeft.reports import as_pdf, report
from shpeft.reports.dicom import refusal, results_with_report
from shpeft.runs import RunFolder
from shpeft.support.headless_browser import unavailable_reason
from shpeft.support.markdown import plain

HELP = (
    "One HTML file with the image, the result and its evidence, the model card, the dataset card, versions and "
    "fingerprints; also the map, its checks and the weight attribution if this page shows them. It works offline, "
    "contains no file or patient names, and prints on A4."
)

HELP_DICOM = (
    "Results for the archive, as a zip: a structured report, the map, the report as PDF and the window. They are filed "
    "under the patient and the study of this DICOM file; nothing else of its header is repeated."
)

HELP_PDF = "The same report, printed to PDF by a browser."


def report_buttons(
    run: RunFolder,
    case: Case,
    diagnosis: Diagnosis,
    explanation: Explanation | None,
    answered: SeriesDiagnosis | None = None,
) -> None:
    """Draw a note and the download buttons; a click makes the report.

    Args:
        answered: of a series, how its answer was made.
    """
    with st.expander("Note for the report"):
        note = st.text_area(
            "Note",
            key=f"note-{run.name}-{case.digest}",
            persist_state="session",
            label_visibility="collapsed",
            placeholder="Appears on the first page of the report. Do not name the patient.",
        )
    remarks = () if answered is None else answered.sentences
    note = "\n".join([*remarks, *([note] if note else [])])
    sanity = None
    if explanation is not None and explanation.sanity is not None:
        diagnosis, sanity = explanation.diagnosis, explanation.sanity
    attribution = model_tasks.latest_result(run, case.digest, "weights")
    html = partial(
        report,
        diagnosis,
        case.image,
        run,
        case=f"case-{case.digest}",
        sanity=sanity,
        attribution=attribution[0] if attribution else None,
        note=note,
        finding=finding.findings(run).get(case.id, ""),
    )
    with st.container(horizontal=True):
        st.download_button(
            "Report (HTML)",
            html,
            f"report_{case.digest}.html",
            "text/html",
            on_click="ignore",
            icon=":material/description:",
            help=HELP,
        )
        st.download_button(
            "Report (PDF)",
            lambda: as_pdf(html()),
            f"report_{case.digest}.pdf",
            "application/pdf",
            on_click="ignore",
            icon=":material/picture_as_pdf:",
            help=plain(unavailable_reason() or HELP_PDF),
            disabled=bool(unavailable_reason()),
        )
        if case.file is not None:
            refused = refusal(case.file)
            results = partial(
                results_with_report,
                run,
                case.file,
                diagnosis,
                decoding=Decoding(run.config.dataset.window, case.frame_of_file),
                sanity=sanity,
                note=note,
                finding=finding.findings(run).get(case.id, ""),
                remarks=remarks,
            )
            st.download_button(
                "Results (DICOM)",
                lambda: results().as_zip(),
                f"results_{case.digest}.zip",
                "application/zip",
                on_click="ignore",
                icon=":material/move_to_inbox:",
                help=plain(refused or HELP_DICOM),
                disabled=bool(refused),
            )
    if case.file is not None and not refused:
        archive.store_case(run, case, results)

"""The report on the image under diagnosis: one click, one file to keep or to print."""

from dataclasses import replace
from functools import partial

import streamlit as st
import working
from diagnosing import Case

from shpeft.diagnosis import Diagnosis
from shpeft.printing import obstacle
from shpeft.reports import as_pdf, report
from shpeft.runs import RunFolder
from shpeft.saliency import Sanity

HELP = (
    "One HTML file with the image, the result and what stands behind it, the cards of the model and its data, versions "
    "and fingerprints; with the map, its checks and the weights' part as far as this page shows them. It needs no "
    "network, names no file and no patient, and prints on A4."
)

HELP_PDF = "The same, as the pages that a browser prints of it."


def offer(run: RunFolder, case: Case, found: Diagnosis, explained: Diagnosis | None, checked: Sanity | None) -> None:
    """The buttons, and a note that goes along. The report is made when one of them is pressed."""
    with st.expander("A note for the report"):
        note = st.text_area(
            "Note",
            key=f"note-{run.name}-{case.digest}",
            label_visibility="collapsed",
            placeholder="It stands on the report's first page. Name no patient in it.",
        )
    if explained is not None:
        found = replace(found, saliency=explained.saliency, target=explained.target)
    made = working.latest(run, case.digest, "weights")
    html = partial(
        report,
        found,
        case.image,
        run,
        case=f"case-{case.digest}",
        sanity=checked,
        attribution=made[0] if made else None,
        note=note,
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
            help=obstacle() or HELP_PDF,
            disabled=bool(obstacle()),
        )

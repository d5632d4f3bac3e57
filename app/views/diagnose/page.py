"""Diagnose: one image or many, each with its answer, its map and the reader's finding."""

import streamlit as st

from app.views.diagnose import (
    answer,
    archive,
    batch,
    beside,
    cases,
    finding,
    image,
    images,
    model_tasks,
    report,
    saliency,
    series,
    similar,
)
from app.widgets import layout, session
from shpeft.errors import ShpeftError

position = st.session_state.get("open_case")
steps = st.container(horizontal=True, vertical_alignment="center")
with steps.popover("Model and images", icon=":material/tune:") if position is not None else st.container():
    if position is None:
        st.title("Diagnose", anchor=False)
    run = session.choose_finished_run()
    worklist = images.choose(run)
    read_first = finding.read_first()
if worklist is not None and len(worklist) == 1:
    position = 0

if worklist is None or not len(worklist):
    if st.session_state.pop("open_case", None) is not None:
        st.rerun()
    batch.earlier(run)
elif position is None or position >= len(worklist):
    csv = cases.text(run, worklist)
    cases.cards(run, worklist, csv, read_first)
    batch.details(run, worklist)
    archive.store_list(run, worklist)
    if read_first:
        finding.agreement_summary(run)
else:
    positions = list(range(len(worklist)))
    if len(worklist) > 1:
        positions = cases.ordered(run, worklist, batch.latest(run, worklist))
        with steps:
            cases.navigation(positions, position)
    case = image.open_case(run, worklist, position)
    if isinstance(case, ShpeftError):
        st.title("Cannot be read", anchor=False)
        layout.show_error(case)
        st.caption("Choose other images under **Model and images** above.")
    elif read_first and finding.is_pending(run, case):
        st.title("What do you see?", anchor=False)
        left, right = st.columns([3, 2], gap="large")
        with left:
            image.view_image(case)
        with right:
            finding.answer_form(run, case)
    else:
        answered = None
        try:
            if case.slices is None:
                diagnosis = saliency.diagnose_image(run, case)
            elif answered := series.latest(run, case):
                case, diagnosis = image.show_key_slice(run, worklist, position, answered.key), answered.diagnosis
            else:
                image.view_image(case)  # before the model is loaded
                if series.answer(run, case) is not None:
                    st.rerun()
                st.stop()
        except ShpeftError as error:
            st.title("The model cannot be used", anchor=False)
            layout.show_error(error)
            st.caption("Choose another model under **Model and images** above. The image is still there.")
            st.stop()
        answer.headline(diagnosis)
        if answered is not None:
            series.sentences(answered)
        finding.record_reading(run, case, diagnosis)
        left, right = st.columns(2, gap="large")
        picture = left.container()
        with right:
            explanation = saliency.explanation(run, case, diagnosis)
        shown = None if explanation is None else explanation.shown
        with picture:
            image.view_image(case, shown)
            image.dataset_label(case)
            image.facts(case)
            image.seen_by_model(run, case)
        if len(worklist) > 1:
            beside.another_case(run, worklist, position, case)
        answer.evidence(diagnosis)
        similar.similar_training_images(run, case)
        finding.choose(run, case)
        if read_first:
            finding.agreement_summary(run)
        report.report_buttons(run, case, diagnosis, explanation, answered)
        image.download_buttons(case, shown or diagnosis, None if explanation is None else explanation.sanity, answered)
model_tasks.cancel_unrequested()

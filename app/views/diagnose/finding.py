"""The reader's own finding: beside the model's answer, or before it; then both are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.views.diagnose.image import Case
from app.widgets.data_table import csv_text
from shpeft.batch.csv_rows import class_at_threshold
from shpeft.delta.file import read_header, task_of
from shpeft.diagnosis import Diagnosis
from shpeft.evaluation.reader_agreement import NumberReading, Reading, agreement, number_agreement
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain
from shpeft.tasks import MultiLabel, Regression
from shpeft.tasks.multi_label import NO_FINDING, SEPARATOR

HELP = (
    "You see the image alone, record your finding, and then see the model's answer, which would otherwise bias yours. "
    "Your findings stay in this browser session until you download or remove them."
)
ENOUGH = 10
"""Readings from which on agreement is shown: of fewer, it says nothing."""


def read_first() -> bool:
    """Draw the setting; return whether the reader comes first."""
    return st.toggle("Read before the model", key="set_read_first", persist_state="session", help=HELP)


def findings(run: RunFolder) -> dict[str, str]:
    """Return the reader's findings by case id."""
    noted: dict[str, str] = st.session_state.setdefault("findings", {}).setdefault(run.name, {})
    return noted


def choose(run: RunFolder, case: Case) -> None:
    """Draw the reader's finding of a case, which goes into the list's CSV."""
    key = f"finding-{run.name}-{case.id}"
    header, noted = read_header(run.delta_path), findings(run).get(case.id)
    chosen: str | None
    settings: Any = {"key": key, "help": "In this browser session; it goes into the list's CSV."}
    if isinstance(task_of(header), Regression):
        number = st.number_input(
            f"Your {plain(_titled(header))}", value=float(noted) if noted else None, format="%g", **settings
        )
        chosen = None if number is None else f"{number:g}"
    elif isinstance(task_of(header), MultiLabel):
        before = noted.split(SEPARATOR) if noted else None
        options = [*header["classes"], NO_FINDING]
        chosen = _joined(
            st.pills("Your findings", options, selection_mode="multi", default=before, format_func=plain, **settings)
        )
    else:
        chosen = st.segmented_control("Your finding", header["classes"], default=noted, format_func=plain, **settings)
    if not chosen:
        findings(run).pop(case.id, None)
    else:
        findings(run)[case.id] = chosen


def _titled(header: Mapping[str, Any]) -> str:
    """Return the quantity of a regression with its unit."""
    task = task_of(header)
    unit = task.unit if isinstance(task, Regression) else ""
    return f"{header['classes'][0]} ({unit})" if unit else str(header["classes"][0])


def _joined(chosen: Sequence[str]) -> str:
    """Return several findings as the text of one label; no finding goes with no other."""
    return SEPARATOR.join(name for name in chosen if name != NO_FINDING) or (NO_FINDING if chosen else "")


def is_pending(run: RunFolder, case: Case) -> bool:
    """Check whether the reader has neither answered this image nor seen the model's answer."""
    return case.digest not in _answers(run) and case.digest not in _shown(run)


def answer_form(run: RunFolder, case: Case) -> None:
    """Draw the form for the reader's answer, which cannot be changed later."""
    with st.form(f"reading-{run.name}-{case.digest}"):
        st.markdown("**What do you see?**")
        header = read_header(run.delta_path)
        answer: str | None
        if isinstance(task_of(header), Regression):
            number = st.number_input(f"Your {plain(_titled(header))}", value=None, format="%g")
            answer = None if number is None else f"{number:g}"
        elif isinstance(task_of(header), MultiLabel):
            options = [*header["classes"], NO_FINDING]
            answer = _joined(st.pills("Your findings", options, selection_mode="multi", format_func=plain))
        else:
            answer = st.radio("Your answer", header["classes"], index=None, format_func=plain)
        confidence = st.slider("Your confidence", 0, 100, 50, 5, help="0 is a guess, 100 is certain.")
        if st.form_submit_button("Save and show the model's answer", type="primary"):
            if not answer:
                st.error("Choose an answer first.")
            else:
                _answers(run)[case.digest] = (answer, confidence)
                findings(run)[case.id] = answer
                st.rerun()


def record_reading(run: RunFolder, case: Case, diagnosis: Diagnosis) -> None:
    """Record that the model's answer is shown, and compare it with the reader's if there is one."""
    answer = _answers(run).get(case.digest)
    if answer is None:
        _shown(run).add(case.digest)
        if st.session_state.get("set_read_first"):
            st.caption("You have already seen the model's answer to this image.")
        return
    confidence = answer[1]
    if (own := diagnosis.estimate) is not None:
        number = NumberReading(case.digest, own.quantity, own.unit, float(answer[0]), confidence, own.value)
        if diagnosis.answer.given:
            _readings(run)[case.digest] = number
        if st.session_state.get("set_read_first"):
            st.markdown(f"You: **{plain(f'{answer[0]} {own.unit}')}**, confidence {confidence:d} of 100.")
        return
    named = class_at_threshold(diagnosis) or diagnosis.ranked()[0][0]
    p = dict(diagnosis.ranked()).get(named, diagnosis.answer.probability)
    reading = Reading(case.digest, answer[0], confidence, named, p)
    if diagnosis.answer.given:  # without an answer there is nothing to agree with
        _readings(run)[case.digest] = reading
    if st.session_state.get("set_read_first"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"You: **{plain(reading.reader_class)}**, confidence {confidence:d} of 100.", width="content")
            if not diagnosis.answer.given:
                return
            if reading.agreed:
                st.badge("You agree", color="green", icon=":material/check:")
            else:
                st.badge("You differ", color="orange", icon=":material/compare_arrows:")


def agreement_summary(run: RunFolder) -> None:
    """Draw how often reader and model agree in this session, and the download of all readings."""
    readings = list(_readings(run).values())
    if not readings:
        return
    if len(readings) < ENOUGH:
        st.caption(f"{len(readings)} read before the model; the agreement is shown from {ENOUGH} on.")
    elif numbers := [reading for reading in readings if isinstance(reading, NumberReading)]:
        of_numbers = number_agreement(numbers)
        st.markdown(
            f"Over {len(numbers):,} images: {plain(of_numbers.text)}",
            help=f"95 % interval of the bias: {plain(of_numbers.shown(of_numbers.bias_low))} to "
            f"{plain(of_numbers.shown(of_numbers.bias_high))}. Limits of agreement (Bland and Altman 1986): 95 % of "
            "the differences lie between them if they are normal. Neither says who is right.",
        )
    else:
        summary = agreement([reading for reading in readings if isinstance(reading, Reading)])
        low, high = summary.agreed.interval
        agreed = summary.agreed
        kappa = "undefined, because only one class has been named" if summary.kappa is None else f"{summary.kappa:.2f}"
        st.markdown(
            f"You and the model agree in **{agreed.count:,} of {agreed.cases:,}** images; Cohen's κ is {kappa}.",
            help=f"95 % interval of the share: {low:.0%} to {high:.0%}. κ corrects for agreement by chance: 0 is "
            "chance, 1 is perfect agreement. Neither says who is right.",
        )
    with st.container(horizontal=True):
        st.download_button(
            "Readings (CSV)",
            csv_text([reading.to_dict() for reading in readings]),
            "readings.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
        )
        if st.button("Delete my answers", icon=":material/delete:"):
            for name in ("answers", "readings"):
                st.session_state.get(name, {}).pop(run.name, None)
            _shown(run).update(reading.case for reading in readings)  # the reader has still seen the model's answers
            st.rerun()


def _answers(run: RunFolder) -> dict[str, tuple[str, int]]:
    answers: dict[str, tuple[str, int]] = st.session_state.setdefault("answers", {}).setdefault(run.name, {})
    return answers


def _readings(run: RunFolder) -> dict[str, Reading | NumberReading]:
    readings: dict[str, Reading | NumberReading] = st.session_state.setdefault("readings", {}).setdefault(run.name, {})
    return readings


def _shown(run: RunFolder) -> set[str]:
    shown: set[str] = st.session_state.setdefault("answers_shown", {}).setdefault(run.name, set())
    return shown

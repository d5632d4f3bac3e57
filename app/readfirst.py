"""Read first: the reader's own answer is written down before the model's is shown, and then both stand side by side."""

import streamlit as st
from diagnosing import Case
from tables import csv_text

from shpeft.deltafile import read_header
from shpeft.diagnosis import Diagnosis
from shpeft.readers import Reading, agreement
from shpeft.runs import RunFolder

MEANT = (
    "You see the image alone, write down your own answer, and then see the model's. Who sees a model's answer first is "
    "drawn towards it. Your answers stay in this browser session until you download or remove them."
)


def wanted() -> bool:
    """Whether the reader answers first."""
    return st.toggle("Read first", key="set_read_first", help=MEANT)


def pending(run: RunFolder, case: Case) -> bool:
    """Whether this image waits for the reader: the model's answer to it was not shown, and there is none of theirs."""
    return case.digest not in _answers(run) and case.digest not in _shown(run)


def ask(run: RunFolder, case: Case) -> None:
    """The form for the reader's answer. An answer is final, like one on paper."""
    with st.form(f"reading-{run.name}-{case.digest}"):
        st.markdown("**What do you see?**")
        chosen = st.radio("Your answer", read_header(run.delta_path)["classes"], index=None)
        confidence = st.slider("Your confidence", 0, 100, 50, 5, help="0 is a guess, 100 is certainty.")
        if st.form_submit_button("Write it down and show the model's answer", type="primary"):
            if chosen is None:
                st.error("Choose an answer first.")
            else:
                _answers(run)[case.digest] = (chosen, confidence)
                st.rerun()


def seen(run: RunFolder, case: Case, found: Diagnosis) -> None:
    """The model's answer is on the page now: beside the reader's, or before it."""
    answer = _answers(run).get(case.digest)
    if answer is None:
        _shown(run).add(case.digest)
        if st.session_state.get("set_read_first"):
            st.caption("You have seen the model's answer to this image already, so it is not asked for yours.")
        return
    name, probability = found.ranked()[0]
    reading = Reading(case.digest, *answer, name, probability)
    _readings(run)[case.digest] = reading
    if st.session_state.get("set_read_first"):
        _side_by_side(reading)


def _side_by_side(reading: Reading) -> None:
    left, right = st.columns(2)
    left.metric("You", reading.reader_class)
    left.caption(f"Confidence {reading.reader_confidence} of 100")
    right.metric("The model", reading.model_class)
    right.caption(f"Probability {reading.model_probability:.1%}")
    if reading.agreed:
        st.badge("You agree", color="green", icon=":material/check:")
    else:
        st.badge("You differ", color="orange", icon=":material/compare_arrows:")


def summary(run: RunFolder) -> None:
    """How far reader and model agree over this session's images, and the table to take away."""
    readings = list(_readings(run).values())
    if not readings:
        return
    found = agreement(readings)
    low, high = found.agreed.interval
    kappa = "not defined: only one class was named so far" if found.kappa is None else f"{found.kappa:.2f}"
    st.markdown(
        f"You and the model agree in **{found.agreed.count} of {found.agreed.cases}** images; Cohen's κ is {kappa}.",
        help=f"The share lies between {low:.0%} and {high:.0%} (95 %). κ takes away what two would agree by chance: 0 "
        "is chance, 1 is perfect agreement. Neither says who is right, and a few images make both rough.",
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
        if st.button("Remove my answers", icon=":material/delete:"):
            for name in ("answers", "readings"):
                st.session_state.get(name, {}).pop(run.name, None)
            _shown(run).update(reading.case for reading in readings)  # they have been seen all the same
            st.rerun()


def _answers(run: RunFolder) -> dict[str, tuple[str, int]]:
    return st.session_state.setdefault("answers", {}).setdefault(run.name, {})


def _readings(run: RunFolder) -> dict[str, Reading]:
    return st.session_state.setdefault("readings", {}).setdefault(run.name, {})


def _shown(run: RunFolder) -> set[str]:
    return st.session_state.setdefault("answers_shown", {}).setdefault(run.name, set())

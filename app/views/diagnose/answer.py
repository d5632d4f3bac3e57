"""The answer to a case: its headline and reasons, what is still possible, and what such answers are worth."""

import streamlit as st

from app.widgets.data_table import text_table
from shpeft.diagnosis import Diagnosis
from shpeft.support.formatting import probability
from shpeft.support.markdown import plain


def headline(diagnosis: Diagnosis) -> None:
    """Draw what a reader needs before the answer, then the answer as the page's title, and what is known about it."""
    for sentence in diagnosis.cautions:
        st.markdown(f":orange[:material/warning:] {plain(sentence)}")
    _decision(diagnosis)


def _decision(diagnosis: Diagnosis) -> None:
    """Draw the answer with its reasons or with what such answers achieved in the test."""
    answer = diagnosis.answer
    st.title(plain(answer.headline), anchor=False)
    if not answer.given:
        for reason in answer.reasons:
            st.warning(plain(reason), icon=":material/visibility_off:")
        return
    if answer.estimate is not None:
        for sentence in answer.sentences:
            st.caption(plain(sentence))
        return
    if answer.findings:
        _findings(diagnosis)
        return
    st.markdown(plain(answer.probability_sentence))
    if answer.still_possible_sentence:  # before the image: another class may be likelier than the one decided on
        st.markdown(f"**{plain(answer.still_possible_sentence)}**", help=plain(answer.coverage_sentence) or None)
    if answer.operating_sentence:
        st.caption(plain(answer.operating_sentence))
    if not answer.calibrated:
        st.caption(
            "It is not calibrated: 90 % does not mean right in 9 of 10 such cases. The Evaluate page can calibrate it."
        )


def _findings(diagnosis: Diagnosis) -> None:
    """Draw a row for each finding: its answer, its probability, its threshold, and what such answers achieved."""
    rows = [
        {
            "finding": part.probability_of,
            "answer": part.headline.rpartition(": ")[2],
            "probability": probability(part.probability),
            "threshold": "" if part.threshold is None else probability(part.threshold),
            "found in the test": "" if part.rates is None else part.rates.sensitivity.counts,
            "not flagged in the test": "" if part.rates is None else part.rates.specificity.counts,
        }
        for part in diagnosis.answer.findings
    ]
    text_table(rows)
    st.caption(
        "Each finding has a threshold of its own. *Found*: test images with the finding that reach it (sensitivity). "
        "*Not flagged*: test images without it that stay below (specificity). *No answer*: too near to the threshold."
    )
    if not diagnosis.calibrated:
        st.caption("The probabilities are not calibrated. The Evaluate page can calibrate them.")


def evidence(diagnosis: Diagnosis) -> None:
    """Draw the validation images like it and all probabilities; without an answer, everything is behind a click."""
    answer = diagnosis.answer
    if answer.given and answer.findings:
        for part in answer.findings:
            if part.evidence_sentence:
                st.caption(plain(part.evidence_sentence))
        return
    if answer.estimate is not None:
        if not answer.given:
            with st.expander("What the model would say: not an answer"):
                st.markdown(f"**Not an answer.** {plain(answer.decision)}.")
        return
    if answer.given and answer.evidence_sentence:
        st.caption(plain(answer.evidence_sentence))
    with st.expander("Probability of each class" if answer.given else "What the model would say: not an answer"):
        if not answer.given:
            st.markdown(f"**Not an answer.** {plain(answer.decision)}.")
            for sentence in answer.sentences:
                st.caption(plain(sentence))
        for name, p in diagnosis.ranked():
            st.progress(p, f"{plain(name)}: {probability(p)}")

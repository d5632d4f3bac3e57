"""The answer to a series: one for all of its slices, by the rule of the list, and the slices that made it."""

import streamlit as st

from app.views.diagnose import model_tasks
from app.views.diagnose.image import Case
from app.widgets import account
from shpeft.batch.csv_rows import made_by
from shpeft.batch.series_rules import SeriesDiagnosis, diagnose_series
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from shpeft.runs.audit import recorder
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress

SECONDS_A_SLICE = 0.1
"""What reading a slice and looking for text in it take beside the model's pass: 75 ms of a CT of 512 by 512 pixels."""

UNASKED_SECONDS = 20.0
"""Expected duration up to which a series is answered without a click."""


def answer(run: RunFolder, case: Case) -> SeriesDiagnosis | None:
    """Return the answer to a series; draw its progress, or the button that starts it, while there is none."""
    series, rule = case.slices, case.rule
    assert series is not None
    assert rule is not None
    model_tasks.cancel_others(run, case.digest)
    record = recorder(account.current(), run.name)

    def work(loaded: LoadedRun, progress: Progress) -> SeriesDiagnosis:
        answered = diagnose_series(loaded, series, rule, progress=progress)
        if record is not None:
            record(case.id, made_by(loaded, rule=rule))
        return answered

    seconds = len(series) * (model_tasks.pass_time(run).forward + SECONDS_A_SLICE)
    label = f"Diagnose the {len(series):,} slices"
    key = (case.digest, rule, "series")
    return model_tasks.result_or_progress(run, key, work, label, seconds, unasked=UNASKED_SECONDS)


def latest(run: RunFolder, case: Case) -> SeriesDiagnosis | None:
    """Return the answer to a series if it is there, without drawing anything."""
    answered: SeriesDiagnosis | None = model_tasks.latest_result(run, case.digest, case.rule, "series")
    return answered


def sentences(answered: SeriesDiagnosis) -> None:
    """Draw how the answer was made, and by which slices."""
    for sentence in answered.sentences:
        st.caption(plain(sentence))

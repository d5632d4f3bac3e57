"""Results on a click into the archive that the app was started with: of a case, or of the whole list."""

from collections.abc import Callable

import streamlit as st

from app.views.diagnose import finding, model_tasks
from app.views.diagnose.image import Case
from app.views.diagnose.images import Worklist
from app.widgets import account
from shpeft.batch.csv_rows import made_by
from shpeft.errors import ShpeftError
from shpeft.pipeline import LoadedRun
from shpeft.reports.dicom import DicomResults
from shpeft.runs import RunFolder
from shpeft.runs.audit import recorder
from shpeft.service.stow import ResultStore, Stored, configured_store, store_cases
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress

SECONDS_A_CASE = 10.0
"""Expected duration of the map, its checks, the report and the way to the archive."""


def store_case(run: RunFolder, case: Case, make: Callable[[], DicomResults]) -> None:
    """Draw the button that stores the results of a case, where there is an archive; later, that they are stored."""
    store = _store()
    if store is None:
        return
    if store.has(run, case.id):
        st.caption(":material/check: The results of this case are stored in the archive.")
        return
    record = recorder(account.current(), run.name, "stored")

    def work(loaded: LoadedRun, progress: Progress) -> Stored:
        progress("storing results", 0, 1)
        if record is not None:
            record(case.id, made_by(loaded, rule=case.rule))
        return Stored(new=1) if store.store(run, case.id, make) else Stored(before=1)

    _on_click(run, (case.digest, "store"), work, "Store in the archive", SECONDS_A_CASE)


def store_list(run: RunFolder, worklist: Worklist) -> None:
    """Draw the button that stores the results of all cases of a list, where there is an archive."""
    store = _store()
    if store is None or not worklist.cases:
        return
    noted, record = finding.findings(run), recorder(account.current(), run.name, "stored")
    cases, rule = worklist.cases, worklist.rule

    def work(loaded: LoadedRun, progress: Progress) -> Stored:
        return store_cases(store, loaded, run, cases, rule, findings=noted, progress=progress, record=record)

    key = (worklist.identity, "store")
    _on_click(run, key, work, f"Store the results of all {len(cases):,} in the archive", len(cases) * SECONDS_A_CASE)


def _store() -> ResultStore | None:
    """Return the store of the archive, or None, with a sentence if it cannot be used."""
    try:
        return configured_store()
    except ShpeftError as error:
        st.caption(plain(str(error)))
        return None


def _on_click(run: RunFolder, key: model_tasks.Key, work: model_tasks.Work[Stored], label: str, seconds: float) -> None:
    """Draw a button, then the progress, then what became of the results; after a refusal, the button again."""
    attempts = st.session_state.setdefault("archive_attempts", {})
    attempt = attempts.get(key, 0)
    try:
        stored = model_tasks.result_or_progress(run, (*key, attempt), work, label, seconds, unasked=-1)
    except ShpeftError as error:
        st.error(plain(str(error)), icon=":material/error:")

        def again() -> None:
            attempts[key] = attempt + 1

        st.button("Try again", key=f"again-{key}", on_click=again, icon=":material/refresh:")
        return
    if stored is not None:
        (st.warning if stored.refused else st.success)(plain(stored.sentence))

"""A run: its progress while it runs, and its result once it is finished."""

import math
from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from app.widgets import account, layout, session
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from app.widgets.run_result import STATUS, all_metrics, result
from shpeft import figures
from shpeft.errors import RunError
from shpeft.runs import RunFolder, Snapshot, find_run
from shpeft.support.markdown import plain


def run_overview(name: str, links: Sequence[str], new: bool = False) -> None:
    """Draw a run at any stage.

    Args:
        links: pages to link to once it is finished.
        new: offer a new run; the run's name is the title of the page.
    """
    snapshot = session.jobs().snapshot(name)
    run = find_run(name)
    _heading(run, snapshot.status, new)
    if snapshot.status in ("queued", "running"):
        _follow(name, snapshot.status)
    elif snapshot.status == "finished":
        if snapshot.message:
            st.info(plain(snapshot.message), icon=":material/info:")
        result(run)
        layout.page_links(run.name, links)
        all_metrics(run)
        with st.expander("Training, epoch by epoch"):
            training_curves(snapshot)
    else:
        _stopped(snapshot)


def _heading(run: RunFolder, status: str, new: bool) -> None:
    """Draw the run's name, status and main settings; with ``new``, a button for a new run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        title = st.title if new else st.header  # the title of the page, or a heading below it
        title(run.name, anchor=False, width="content")
        st.badge(STATUS[status][0], color=STATUS[status][1])
        if new:
            st.space("stretch")
            if st.button("New run", icon=":material/add:"):
                session.select_run(None)
                st.rerun()
    config = run.config
    st.caption(
        f"{plain(layout.dataset_name(config.dataset.source))} · {plain(config.backbone.name)} · "
        f"{layout.budget_text(config.selection.budget)}"
    )


@st.fragment(run_every=1)
def _follow(name: str, status: str) -> None:
    """Show the progress every second; rerun the whole page when the run changes status or is deleted."""
    with layout.error_boundary():
        jobs = session.jobs()
        try:
            snapshot = jobs.snapshot(name)
        except RunError:
            st.rerun()
        if snapshot.status != status:
            st.rerun()
        if snapshot.status == "queued":
            ahead = jobs.ahead(name)
            st.progress(0.0, f"Waiting for {plain(' and '.join(ahead))}." if ahead else "Starting.")
        else:
            time_left = _time_left(snapshot.eta_seconds) or "The time left is known in a moment."
            st.progress(snapshot.fraction, f"{plain(snapshot.stage)}. {time_left}")
        _stop_buttons(snapshot)
        if snapshot.history:
            training_curves(snapshot, live=True)
        else:
            st.caption(
                "First the images are read, the unchanged model is tried, and its weights are scored. The curves begin "
                "with the first epoch."
            )


STOPPING = {
    "stop": "Stopping. The best epoch so far is tested and saved; before the first epoch, the run can be resumed.",
    "discard": "Stopping. The run moves to the trash.",
}


def _stop_buttons(snapshot: Snapshot) -> None:
    """Draw the ways to stop a run early, and the one already requested in any browser."""
    name = snapshot.run
    if not account.may(find_run(name).path):
        st.caption(account.NOT_YOURS)
        return
    if snapshot.status == "queued":
        st.button("Remove from the queue", on_click=_discard, args=(name,), icon=":material/close:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Stop and keep the best epoch" if any(report.epoch for report in snapshot.history) else "Stop",
            on_click=_stop,
            args=(name,),
            disabled=bool(snapshot.end_request),
            icon=":material/stop:",
            key="stop",
            help="Training stops after the current step. The best epoch so far is tested and saved, as at the end of a "
            "full run. Before the first epoch there is nothing to save, and the run can be resumed later.",
        )
        st.button(
            "Discard",
            on_click=_discard,
            args=(name,),
            disabled=snapshot.end_request == "discard",
            icon=":material/delete:",
            help="Stops the run and moves it to the trash. It can be restored and resumed.",
        )
        if snapshot.end_request:
            st.caption(f":material/hourglass_empty: {STOPPING[snapshot.end_request]}")


def _stop(name: str) -> None:
    account.check(find_run(name).path, f"The run {name}")
    session.jobs().stop(name)


def _discard(name: str) -> None:
    account.check(find_run(name).path, f"The run {name}")
    session.jobs().discard(name)


@st.fragment(run_every=2)
def run_queue() -> None:
    """Draw the active run and the queue, in order; waiting runs can be removed."""
    jobs = session.jobs()
    active, waiting = jobs.active(), jobs.queue()
    if not active and not waiting:
        return
    with st.container(border=True):
        for position, name in enumerate(([active] if active else []) + list(waiting)):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"Run {plain(name)}", width="content")
                opened = st.button(
                    "Show run",
                    key=f"open-{name}",
                    on_click=session.select_run,
                    args=(name,),
                    icon=":material/arrow_forward:",
                )
                if opened:
                    st.rerun()  # the whole page, not only the queue
                if name == active:
                    snapshot = jobs.snapshot(name)
                    st.caption(f"{STATUS['running'][0]}, {snapshot.fraction:.0%}. {_time_left(snapshot.eta_seconds)}")
                else:
                    number = position if active else position + 1
                    st.caption(f"{STATUS['queued'][0]}, number {number:d} in the queue")
                    if account.may(find_run(name).path):
                        st.button("Remove", key=f"out-{name}", on_click=_discard, args=(name,))
        st.caption("A new run waits for the earlier runs on its device.")


def _time_left(seconds: float | None) -> str:
    """Format the time left as ``About 0:01:20 left.``; empty while it is unknown."""
    return "" if seconds is None else f"About {plain(timedelta(seconds=round(seconds)))} left."


def training_curves(snapshot: Snapshot, live: bool = False) -> None:
    """Draw losses and AUROC by epoch, with a sentence on the last epoch and, unless live, a table."""
    if not snapshot.history:
        st.caption("The run ended before the first epoch.")
        return
    last = snapshot.history[-1]
    chart(
        figures.training_curves(snapshot.history),
        key="curves",
        alt="Losses and validation metrics by epoch",
    )
    trained = f"Epoch {last.epoch:d} of {last.epochs:d}: training loss {last.loss:.3f}" if last.epoch else "Start"
    no_auroc = all(math.isnan(report.val_auroc) for report in snapshot.history)
    auroc = "" if no_auroc else f", validation AUROC {last.val_auroc:.3f}"
    what = "numbers" if no_auroc else "probabilities"
    saved = f"The epoch whose {what} fit the validation images best is saved"
    averaged = next((report.averaged for report in reversed(snapshot.history) if report.best), 0)
    if averaged or (live and find_run(snapshot.run).config.training.average != "none"):
        saved = "The mean of the weights over the last quarter of the epochs is saved"
    st.caption(
        f"{trained}, validation loss {last.val_loss:.3f}{auroc}. {plain(saved)}, or the start where that is better: "
        "the linear probe (epoch 0)."
    )
    if not live:
        only_auroc = all(math.isnan(report.val_balanced_accuracy) for report in snapshot.history)
        rows = [
            {
                "epoch": report.epoch,
                "training loss": report.loss,
                "validation loss": report.val_loss,
                **({} if no_auroc else {"validation AUROC": report.val_auroc}),
                **({} if only_auroc else {"balanced accuracy": report.val_balanced_accuracy}),
                "best so far": report.best,
            }
            for report in snapshot.history
        ]
        formatted = {"training loss", "validation loss", "validation AUROC", "balanced accuracy"} & rows[0].keys()
        numbers_table(rows, f"{snapshot.run}_epochs", dict.fromkeys(sorted(formatted), "%.3f"))


def _stopped(snapshot: Snapshot) -> None:
    """Draw why a run stopped, and a button to resume it."""
    if snapshot.status == "failed":
        layout.show_error(RunError(snapshot.message))
    else:
        st.warning(plain(snapshot.message) or "The run stopped before it was finished.", icon=":material/warning:")
    with layout.error_boundary():
        if st.button(
            "Resume",
            type="primary",
            icon=":material/resume:",
            help="Continues after the last complete epoch, to the same numbers as without the interruption.",
        ):
            account.check(find_run(snapshot.run).path, f"The run {snapshot.run}")
            session.jobs().resume(snapshot.run, account.current())
            st.rerun()
    if snapshot.history:
        training_curves(snapshot)

"""A run under way, and how it ended."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import shared
import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.errors import RunError
from shpeft.runs import RunFolder, Snapshot, find_run
from shpeft.runs.card import METRICS, interval

ENDED = {
    "finished": ("Finished", "green"),
    "cancelled": ("Cancelled", "gray"),
    "failed": ("Failed", "red"),
    "interrupted": ("Interrupted", "orange"),
    "running": ("Running", "blue"),
    "queued": ("Waiting", "gray"),
}
HEADLINE = {
    "balanced_accuracy": (
        "Balanced accuracy",
        "The share of test images that were recognised, averaged over the classes, so that a rare class counts as much "
        "as a common one. Guessing gives 1 divided by the number of classes.",
    ),
    "macro_auroc": (
        "AUROC",
        "How often an image of a class gets a higher score for it than an image of another class, averaged over the "
        "classes. 0.5 is guessing, 1 is perfect.",
    ),
}


def show(name: str, links: Sequence[str], new: bool = False) -> None:
    """A run at whatever stage it is; ``links`` are the pages to go on to, ``new`` offers another run."""
    snapshot = shared.jobs().snapshot(name)
    run = find_run(name)
    heading(run, snapshot.status, new)
    if snapshot.status in ("queued", "running"):
        _follow(name, snapshot.status)
    elif snapshot.status == "finished":
        if snapshot.message:
            st.info(snapshot.message, icon=":material/info:")
        result(run)
        shared.links(run.name, links)
        curves(snapshot)
        details(run)
    else:
        _stopped(snapshot)


def heading(run: RunFolder, status: str, new: bool) -> None:
    """The run's name with its state, and what it was asked; with ``new`` the way to another run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        name = st.title if new else st.header  # the first heading of its page, or one below
        name(run.name, anchor=False, width="content")
        st.badge(ENDED[status][0], color=ENDED[status][1])
        if new:
            st.space("stretch")
            if st.button("New run", icon=":material/add:"):
                shared.look_at(None)
                st.rerun()
    wanted = run.config
    st.caption(
        f"{shared.source_name(wanted.dataset.source)} · {wanted.backbone.name} · "
        f"{shared.budget_name(wanted.selection.budget)} · seed {wanted.seed}"
    )


@st.fragment(run_every=1)
def _follow(name: str, status: str) -> None:
    """Drawn anew every second while the run is under way; the whole page when the run is at another status, or gone."""
    with shared.boundary():
        jobs = shared.jobs()
        try:
            snapshot = jobs.snapshot(name)
        except RunError:
            st.rerun()
        if snapshot.status != status:
            st.rerun()
        if snapshot.status == "queued":
            ahead = jobs.ahead(name)
            st.progress(0.0, f"Waiting for {' and '.join(ahead)} to end." if ahead else "About to begin.")
        else:
            st.progress(snapshot.fraction, f"{snapshot.stage}. {left(snapshot.eta_seconds)}")
        _endings(snapshot)
        if snapshot.history:
            curves(snapshot, live=True)


ENDING = {
    "stop": "Stopping: the best epoch so far is tested and kept.",
    "discard": "Stopping: the run goes into the trash.",
}


def _endings(snapshot: Snapshot) -> None:
    """The ways to end a run before its time, or what was asked already, by whichever browser."""
    jobs, name = shared.jobs(), snapshot.run
    if snapshot.status == "queued":
        st.button("Take out of the queue", on_click=jobs.discard, args=(name,), icon=":material/close:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Stop and keep the best",
            on_click=jobs.stop,
            args=(name,),
            disabled=bool(snapshot.ending) or not snapshot.history,
            icon=":material/stop:",
            help="Training ends after the present step. The best epoch so far is tested and kept like that of a run "
            "that went on to its end. There is one after the first epoch.",
        )
        st.button(
            "Discard",
            on_click=jobs.discard,
            args=(name,),
            disabled=snapshot.ending == "discard",
            icon=":material/delete:",
            help="The run is stopped and goes into the trash, from where it can be brought back and resumed.",
        )
        if snapshot.ending:
            st.caption(f":material/hourglass_empty: {ENDING[snapshot.ending]}")


@st.fragment(run_every=2)
def queue() -> None:
    """What is under way and what waits, in order; each that waits can be taken out."""
    jobs = shared.jobs()
    active, waiting = jobs.active(), jobs.queue()
    if not active and not waiting:
        return
    with st.container(border=True):
        for position, name in enumerate(([active] if active else []) + list(waiting)):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"The run {name}", width="content")
                look = st.button(
                    "Look at it",
                    key=f"look-{name}",
                    on_click=shared.look_at,
                    args=(name,),
                    icon=":material/arrow_forward:",
                )
                if look:
                    st.rerun()  # the whole page, not the queue alone
                if name == active:
                    snapshot = jobs.snapshot(name)
                    st.caption(f"{ENDED['running'][0]}, {snapshot.fraction:.0%}. {left(snapshot.eta_seconds)}")
                else:
                    place = position if active else position + 1
                    st.caption(f"{ENDED['queued'][0]}, number {place} in the queue")
                    st.button("Take out", key=f"out-{name}", on_click=jobs.discard, args=(name,))
        st.caption("A new run waits until those of its device have ended.")


def left(seconds: float | None) -> str:
    """``About 0:01:20 left.``, or nothing before there is evidence."""
    return "" if seconds is None else f"About {timedelta(seconds=round(seconds))} left."


def curves(snapshot: Snapshot, live: bool = False) -> None:
    """The whole run's curves, with the same numbers in words for the last epoch and, once it has ended, in a table."""
    if not snapshot.history:
        st.caption("It ended before the first epoch.")
        return
    last = snapshot.history[-1]
    st.plotly_chart(
        figures.training_curves(snapshot.history),
        key="curves",
        alt="Losses and validation measures, epoch by epoch",
        config={"displayModeBar": False},
    )
    st.caption(
        f"Epoch {last.epoch} of {last.epochs}: training loss {last.loss:.3f}, validation loss {last.val_loss:.3f}, "
        f"validation AUROC {last.val_auroc:.3f}. The epoch with the lowest validation loss, taken "
        "after temperature scaling, is kept."
    )
    if not live:
        rows = [
            {
                "epoch": report.epoch,
                "training loss": report.loss,
                "validation loss": report.val_loss,
                "validation AUROC": report.val_auroc,
                "balanced accuracy": report.val_balanced_accuracy,
                "best so far": report.best,
            }
            for report in snapshot.history
        ]
        measures = ("training loss", "validation loss", "validation AUROC", "balanced accuracy")
        same_numbers(rows, f"{snapshot.run}_epochs", dict.fromkeys(measures, "%.3f"))


def _stopped(snapshot: Snapshot) -> None:
    """How an unfinished run ended, and the way to go on with it."""
    if snapshot.status == "failed":
        shared.complain(RunError(snapshot.message))
    else:
        st.warning(snapshot.message or "It was stopped before it was finished.", icon=":material/warning:")
    with shared.boundary():
        if st.button(
            "Resume",
            type="primary",
            icon=":material/resume:",
            help="The run goes on after its last whole epoch, to the numbers that it would have had.",
        ):
            shared.jobs().resume(snapshot.run)
            st.rerun()
    if snapshot.history:
        curves(snapshot)


def result(run: RunFolder) -> None:
    """How good the model is on the test images, beside the linear probe."""
    metrics = run.metrics()
    if metrics is None:
        st.warning("This run has no metrics.")
        return
    weights = metrics["weights"]
    st.markdown(
        f"{verdict(metrics)} Tested on {metrics['finetuned']['cases']:,} images that it had not seen; "
        f"{weights['selected']:,} of {weights['backbone']:,} backbone weights were trained "
        f"({shared.share(weights['share'])}; with head {shared.share(weights['share_with_head'])})."
    )
    columns = st.columns(len(HEADLINE))
    for column, (key, (title, words)) in zip(columns, HEADLINE.items(), strict=True):
        with column.container(border=True):
            st.metric(title, interval(metrics["finetuned"][key]), help=words + " In brackets: the 95 % interval.")
            st.caption(
                f"Linear probe {interval(metrics['probe'][key])}  \n"
                f"Difference {interval(metrics['difference'][key], sign=True)}",
                help="The linear probe is the same backbone with no weight changed, only a classifier on top: what "
                "fine-tuning has to beat. The difference is taken on the same images.",
            )


def details(run: RunFolder) -> None:
    """Every measure, and every class."""
    metrics = run.metrics()
    if metrics is None:
        return
    with st.expander("All measures, and each class"):
        st.dataframe(_rows(metrics), hide_index=True)
        st.dataframe(
            [
                {
                    "class": row["name"],
                    "test images": row["cases"],
                    "recall": interval(row["recall"]),
                    "AUROC": interval(row["auroc"]),
                }
                for row in metrics["finetuned"]["per_class"]
            ],
            hide_index=True,
        )


def verdict(metrics: dict[str, Any]) -> str:
    """Whether fine-tuning was worth it, in words."""
    found = metrics["difference"]["macro_auroc"]
    if found["low"] is None or found["high"] is None:
        return "The test images do not allow a comparison with the linear probe."
    if found["low"] > 0:
        return "**Better than the linear probe.**"
    if found["high"] < 0:
        return "**Worse than the linear probe:** fine-tuning has not helped here."
    return "**No clear difference from the linear probe:** the interval of the difference in AUROC holds 0."


def _rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "measure": title,
            "fine-tuned": interval(metrics["finetuned"][key]),
            "linear probe": interval(metrics["probe"][key]),
            "difference": interval(metrics["difference"][key], sign=True),
        }
        for key, title in METRICS.items()
    ]

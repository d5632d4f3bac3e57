"""A run under way, and how it ended."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import shared
import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft.errors import RunError
from shpeft.jobs import Snapshot
from shpeft.runs import RunFolder, find_run
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
    """Drawn anew every second while the run is under way; the whole page when the run is at another status."""
    with shared.boundary():
        jobs = shared.jobs()
        snapshot = jobs.snapshot(name)
        if snapshot.status != status:
            st.rerun()
        if snapshot.status == "queued":
            st.progress(0.0, "Waiting for another run to end.")
        else:
            st.progress(snapshot.fraction, f"{snapshot.stage}. {left(snapshot.eta_seconds)}")
        if name == jobs.active() or name in jobs.queue():
            _cancel(name)
        else:
            st.caption("Another process carries out this run; it can be cancelled there.")
        if snapshot.history:
            curves(snapshot)


def _cancel(name: str) -> None:
    def cancel() -> None:  # as a callback, which also runs where the page is drawn anew before it comes to the button
        st.session_state["cancelled"] = name
        shared.jobs().cancel(name)

    asked = st.session_state.get("cancelled") == name
    words = "Stopping …" if asked else "Cancel"
    st.button(words, key="cancel", on_click=cancel, disabled=asked, icon=":material/stop:")


def left(seconds: float | None) -> str:
    """``About 0:01:20 left.``, or nothing before there is evidence."""
    return "" if seconds is None else f"About {timedelta(seconds=round(seconds))} left."


def curves(snapshot: Snapshot) -> None:
    """The whole run's curves, with the same numbers in words for the last epoch."""
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
        f"validation AUROC {last.val_auroc:.3f}. The epoch with the lowest validation loss is kept."
    )
    same_numbers(
        [
            {
                "epoch": report.epoch,
                "training loss": report.loss,
                "validation loss": report.val_loss,
                "validation AUROC": report.val_auroc,
                "balanced accuracy": report.val_balanced_accuracy,
                "best so far": report.best,
            }
            for report in snapshot.history
        ],
        f"{snapshot.run}_epochs",
    )


def _stopped(snapshot: Snapshot) -> None:
    if snapshot.status == "failed":
        shared.complain(RunError(snapshot.message))
    else:
        st.warning(snapshot.message or "It was stopped before it was finished.", icon=":material/warning:")
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

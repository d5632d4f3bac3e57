"""What a run achieves, in sentences and numbers, and its status. Home shows it, so no import here may be slow."""

from typing import Any, Literal

import streamlit as st

from app.widgets import layout
from shpeft.runs import RunFolder
from shpeft.support.formatting import MAIN, TITLES, class_table, interval, metrics_of_task
from shpeft.support.markdown import plain

Color = Literal["blue", "green", "orange", "red", "gray"]

STATUS: dict[str, tuple[str, Color]] = {
    "finished": ("Finished", "green"),
    "cancelled": ("Cancelled", "gray"),
    "failed": ("Failed", "red"),
    "interrupted": ("Interrupted", "orange"),
    "running": ("Running", "blue"),
    "queued": ("Waiting", "gray"),
}


MEANINGS = {
    "quadratic_kappa": "Quadratic weighted kappa is the agreement of the predicted grade with the true one, where a "
    "difference counts by its square: 0 is chance, 1 is perfect.",
    "balanced_accuracy": "Balanced accuracy is the share of each class's test images classified correctly, averaged "
    "over the classes.",
    "mae": "The mean absolute error is how far a prediction is from the true value on average.",
    "macro_auroc": "AUROC is the chance that an image with a finding gets a higher probability than one without it, "
    "averaged over the findings.",
}
"""What the metrics that stand for a run say."""


def headline(run: RunFolder) -> str:
    """Return what a finished run achieves, in a sentence of counts."""
    reliability = run.reliability.read()
    if reliability is not None:
        return reliability.headline
    metrics = run.metrics.read()
    return f"{TITLES[_main(metrics)]} {interval(metrics['finetuned'][_main(metrics)])}." if metrics else ""


def _main(metrics: dict[str, Any]) -> str:
    """Return the metric that stands for a run of this task."""
    return next(name for name in MAIN if name in metrics["finetuned"])


def result(run: RunFolder) -> None:
    """Draw what a finished run achieves, then whether it beats the linear probe, then what was trained."""
    st.header(plain(headline(run)), anchor=False)
    metrics, reliability = run.metrics.read(), run.reliability.read()
    for part in ({} if reliability is None else reliability.parts).values():
        if part.operating is not None and part.operating.bound is not None:
            st.caption(plain(part.operating.bound.sentence))
    if metrics is None:
        st.warning("This run has no test metrics.")
        return
    key = _main(metrics)
    st.markdown(
        f"{_verdict(metrics)} {TITLES[key]} {interval(metrics['finetuned'][key])}, of the linear probe "
        f"{interval(metrics['probe'][key])}.",
        help="The linear probe is the unchanged backbone with a trained classifier: what fine-tuning has to beat. "
        f"{MEANINGS[key]} In brackets: the 95 % interval. The verdict is on "
        f"{'this error' if key == 'mae' else 'the AUROC'}, paired on the same images.",
    )
    weights = metrics["weights"]
    st.caption(
        f"Tested on {metrics['finetuned']['cases']:,} held-out images; {weights['selected']:,} of "
        f"{weights['backbone']:,} backbone weights were trained ({layout.share(weights['share'])}; with head "
        f"{layout.share(weights['share_with_head'])})."
    )


def all_metrics(run: RunFolder) -> None:
    """Draw every metric, overall and by class."""
    metrics = run.metrics.read()
    if metrics is None:
        return
    by_class = ", and each class" if "per_class" in metrics["finetuned"] else ""
    with st.expander(f"All metrics{by_class}"):
        st.dataframe(_metric_rows(metrics), hide_index=True)
        if rows := class_table(metrics["finetuned"].get("per_class", ())):
            st.dataframe(rows, hide_index=True)
        elif metrics["finetuned"].get("unit"):
            st.caption(f"Errors are in {plain(metrics['finetuned']['unit'])}.")


def _verdict(metrics: dict[str, Any]) -> str:
    """Say in a sentence whether fine-tuning beat the linear probe."""
    number = "macro_auroc" not in metrics["difference"]
    difference = metrics["difference"]["mae" if number else "macro_auroc"]
    if difference["low"] is None or difference["high"] is None:
        return "No comparison with the linear probe is possible on these test images."
    above, below = difference["low"] > 0, difference["high"] < 0
    if below if number else above:
        return "**Better than the linear probe.**"
    if above if number else below:
        return "**Worse than the linear probe:** fine-tuning did not help here."
    name = "difference of the mean absolute error" if number else "AUROC difference"
    return f"**No clear difference from the linear probe:** the interval of the {name} includes 0."


def _metric_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "metric": title,
            "fine-tuned": interval(metrics["finetuned"][key]),
            "linear probe": interval(metrics["probe"][key]),
            "difference": interval(metrics["difference"][key], sign=True),
        }
        for key, title in metrics_of_task(metrics["finetuned"]).items()
    ]

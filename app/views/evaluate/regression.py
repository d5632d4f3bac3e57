"""Evaluate, for a run that predicts a number: its errors, its prediction interval, and what gets no answer."""

import streamlit as st

from app.widgets import layout
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft import figures
from shpeft.errors import RunError
from shpeft.evaluation import IntervalReliability, IntervalRule
from shpeft.evaluation.regression import evaluate_regression, regression_by_subgroup
from shpeft.pipeline import set_decision_rules
from shpeft.runs import RunFolder
from shpeft.support.formatting import TITLES, interval
from shpeft.support.jsonable import to_jsonable
from shpeft.support.markdown import plain

COVERAGES = (0.8, 0.85, 0.9, 0.95, 0.98)


def show(run: RunFolder) -> None:
    """Draw the whole page."""
    reliability = run.reliability.read()
    assert isinstance(reliability, IntervalReliability)
    headline, tabs = st.container(), st.tabs(["Predicted and true", "Prediction interval", "No answer", "Subgroups"])
    with tabs[1]:
        reliability = _interval(run, reliability)
    with headline:
        st.header(plain(reliability.headline), anchor=False)
        for caution in reliability.cautions:
            st.warning(plain(caution), icon=":material/warning:")
    with tabs[0]:
        _predictions(run, reliability)
    with tabs[2]:
        gate = None if reliability.test is None else reliability.test.gate
        for sentence in () if gate is None else gate.sentences:
            st.markdown(plain(sentence))
        st.caption("An image that looks unlike the training images gets no number.")
    with tabs[3]:
        _subgroups(run)


def _interval(run: RunFolder, reliability: IntervalReliability) -> IntervalReliability:
    """Draw the coverage, which is saved at once, and what it achieves; return the reliability by it."""
    chosen = st.select_slider(
        "How many intervals should hold the true value?",
        sorted({*COVERAGES, reliability.rules.coverage}),
        reliability.rules.coverage,
        key=f"coverage-{run.name}",
        format_func=lambda share: f"{share:.0%}",
        disabled=run.is_example,
        help="A wider interval holds the true value more often. Its width is fitted on the validation images.",
    )
    if chosen != reliability.rules.coverage:
        with layout.error_boundary():
            fitted = set_decision_rules(run, IntervalRule(chosen))
            if not isinstance(fitted, IntervalReliability):
                raise RunError(f"The run {run.name} has classes and no interval. Open the page again.")
            reliability = fitted
    low, high = reliability.expected
    if reliability.half_width is not None:
        st.markdown(f"Every prediction is given **{plain(reliability.shown_width)}**.")
        if reliability.test is not None:
            st.markdown(f"**{plain(reliability.test.covered.counts)}** test images are inside their interval.")
        st.caption(
            f"Fitted on {reliability.cases:,} validation images (split conformal). With as many, the coverage of new "
            f"images lies between {low:.0%} and {high:.0%} in 95 % of draws. It holds on average, not for every size."
        )
    return reliability


@layout.section
def _predictions(run: RunFolder, reliability: IntervalReliability) -> None:
    """Draw the metrics, and each test image as a point."""
    predictions = run.predictions.test()
    metrics = evaluate_regression(predictions)
    values = to_jsonable(metrics.to_dict())
    st.dataframe(
        [{"metric": TITLES[name], "value": interval(values[name])} for name in ("mae", "rmse", "r2", "bias")],
        hide_index=True,
    )
    unit = f" Errors are in {plain(metrics.unit)}." if metrics.unit else ""
    st.caption(f"Of {metrics.cases:,} test images, with 95 % intervals.{unit}")
    drawn = {
        "predicted": figures.predicted_against_true(predictions, reliability),
        "errors": figures.prediction_errors(predictions, reliability),
    }
    left, right = st.columns(2, gap="large")
    quantity = predictions.classes[0]
    with left:
        chart(
            drawn["predicted"],
            key="predicted",
            alt=f"Predicted against true {quantity}",
        )
    with right:
        chart(
            drawn["errors"],
            key="errors",
            alt=f"Error of {quantity} against its true value",
        )
    rows = [
        {"test image": number, "true": float(true), "predicted": float(predicted)}
        for number, (true, predicted) in enumerate(
            zip(predictions.labels, predictions.probabilities[:, 0], strict=True), start=1
        )
    ]
    numbers_table(rows, f"{run.name}_predictions", dict.fromkeys(("true", "predicted"), "%.4g"))


def _subgroups(run: RunFolder) -> None:
    """Draw the metrics of each subgroup."""
    with layout.error_boundary():
        rows = [
            {
                "subgroup": name,
                "test images": metrics.cases,
                **{
                    TITLES[key]: interval(to_jsonable(value))
                    for key, value in (("mae", metrics.mae), ("bias", metrics.bias), ("r2", metrics.r2))
                },
            }
            for name, metrics in regression_by_subgroup(run.predictions.test())
        ]
        if rows:
            st.dataframe(rows, hide_index=True)
        else:
            st.caption("No subgroups. A column `site`, `hospital`, `scanner` or `subgroup` of the table makes them.")

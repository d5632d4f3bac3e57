"""Performance of the decision rules: headline, gate, sensitivity and specificity, coverage of the sets, risk."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.views.evaluate import metrics
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table, text_table
from shpeft import evaluation, figures
from shpeft.evaluation import Abstention, AbstentionRates, GateRates, Rates, Reliability
from shpeft.pipeline.evaluated_run import EvaluatedRun
from shpeft.support.markdown import plain

GATE_RATES: dict[str, Callable[[GateRates], str]] = {
    "no answer": lambda rates: rates.no_answer.counts,
    "unlike the training images: false alarms": lambda rates: rates.unlike.counts,
    "inside the abstain band": lambda rates: rates.uncertain.counts,
    "wrong decisions that get no answer": lambda rates: rates.errors_withheld.counts,
    "wrong answers": lambda rates: rates.wrong_answers.counts,
    "positive, answered as negative": lambda rates: "" if rates.missed is None else rates.missed.counts,
}
"""Rows of the gate's table."""


def headline(reliability: Reliability) -> None:
    """Draw what the model achieves, in counts, and what can be promised."""
    st.header(plain(reliability.headline), anchor=False)
    bound = None if reliability.operating is None else reliability.operating.bound
    if bound is not None:
        st.write(plain(bound.sentence))


def gate(run: EvaluatedRun, reliability: Reliability) -> None:
    """Draw what gets no answer, on the test and the validation images."""
    tested = None if reliability.test is None else reliability.test.gate
    if tested is None or reliability.gate is None:
        st.info("This run was made by an older version, which did not measure what gets no answer.")
        metrics.calibrate_button(run, "Measure it")
        return
    st.write("An image gets no answer if it is unlike the training images or inside the abstain band.")
    left, right = st.columns(2, gap="large")
    left.dataframe(
        [
            {"images": title, "test": counts(tested), "validation": counts(reliability.gate)}
            for title, counts in GATE_RATES.items()
            if counts(tested)
        ],
        hide_index=True,
    )
    right.dataframe(
        [{"images of other kinds": kind, "no answer": share.counts} for kind, share in tested.others.items()],
        hide_index=True,
    )
    st.caption(
        "Images of other kinds should get no answer. Phantoms are generated images: one that looks like the training "
        "images may pass."
    )


def threshold_performance(run: EvaluatedRun, reliability: Reliability) -> None:
    """Draw sensitivity and specificity at the threshold."""
    point = reliability.operating
    if point is None:
        st.info("Choose the class to get a threshold. Without one, the most probable class is the answer.")
        return
    left, right = st.columns(2, gap="large")
    validation = run.validation()
    assert validation is not None  # the page ends earlier without them
    validation = evaluation.calibrate_predictions(validation, reliability.calibration.temperature)
    curve = evaluation.threshold_curve(validation, point.rule.positive)
    with left:
        chart(
            figures.threshold_curves(curve, point),
            key="thresholds",
            alt=f"Sensitivity and specificity for {point.rule.positive} by threshold",
        )
        st.caption("On the validation images.")
        columns = (curve.thresholds.tolist(), curve.sensitivity.tolist(), curve.specificity.tolist())
        numbers_table(
            [
                dict(zip(("threshold", "sensitivity", "specificity"), row, strict=True))
                for row in zip(*columns, strict=True)
            ],
            f"{run.name}_thresholds",
            dict.fromkeys(("threshold", "sensitivity", "specificity"), "%.3f"),
        )
    with right:
        st.metric(
            "Decision threshold",
            f"{point.threshold:.3f}",
            help=f"An image is positive for {plain(point.rule.positive)} if its calibrated probability is at least "
            "this.",
        )
        rows = _rates(point.validation, reliability.test.operating if reliability.test else None)
        text_table(rows)
        st.caption(
            "With 95 % intervals (Wilson). The threshold was chosen on the validation images, so those results are "
            "slightly optimistic; the test images are independent.",
            help="Predictive values hold at the prevalence in these images: if the class is rarer, the positive "
            "predictive value is lower. The intervals treat images as independent; with several images per patient "
            "they are too narrow.",
        )


def _rates(validation: Rates, test: Rates | None) -> list[dict[str, str]]:
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "ppv": "positive predictive value",
        "npv": "negative predictive value",
    }
    return [
        {"metric": title, "validation": str(getattr(validation, key)), "test": str(getattr(test, key)) if test else ""}
        for key, title in names.items()
    ]


def set_performance(reliability: Reliability) -> None:
    """Draw the coverage and the sizes of the prediction sets."""
    for caution in reliability.sets.cautions:
        st.warning(plain(caution), icon=":material/warning:")
    low, high = reliability.sets.expected
    coverage = reliability.test.coverage if reliability.test else None
    left, middle, right = st.columns(3)
    left.metric(
        "Expected coverage",
        f"{low:.0%} to {high:.0%}",
        border=True,
        help="With this many validation images, the coverage on new images is in this range in 95 % of draws. More "
        "validation images make it narrower.",
    )
    if coverage is None:
        return
    middle.metric(
        "Coverage on the test images",
        f"{coverage.covered.value:.1%}",
        border=True,
        help=f"How often the set contained the true class: {plain(coverage.covered)}.",
    )
    right.metric(
        "Mean set size",
        f"{coverage.mean_size:.2f}",
        border=True,
        help=f"1 is a single class; {len(reliability.classes)} are all.",
    )
    left, right = st.columns(2, gap="large")
    left.dataframe(
        [{"true class": name, "sets that contain it": str(share)} for name, share in coverage.by_class.items()],
        hide_index=True,
    )
    right.dataframe(
        [{"classes in the set": size, "test images": count} for size, count in coverage.sizes.items()], hide_index=True
    )
    st.caption(
        "The coverage is guaranteed for images exchangeable with the validation images: same source, same mix. Those "
        "also chose the best epoch and the temperature, which weakens the guarantee slightly; rely on the coverage of "
        "the test images. The most probable class is in every set."
    )


def abstention_performance(run: EvaluatedRun, reliability: Reliability) -> None:
    """Draw the errors among the answered images against the share answered."""
    abstention = reliability.abstention
    if abstention is None:
        return
    left, right = st.columns(2, gap="large")
    validation = run.validation()
    assert validation is not None  # the page ends earlier without them
    validation = evaluation.calibrate_predictions(validation, reliability.calibration.temperature)
    curve = evaluation.risk_coverage(validation, abstention.operating)
    with left:
        chosen = abstention.validation.coverage.value
        chart(
            figures.risk_coverage_curve(curve, chosen),
            key="risk",
            alt="Errors among the answered images by share answered",
        )
        st.caption(
            "Risk–coverage curve on the validation images. Lower is better; the dashed line is random abstention."
        )
        columns = (curve.certainty.tolist(), curve.coverage.tolist(), curve.risk.tolist())
        numbers_table(
            [dict(zip(("certainty", "coverage", "risk"), row, strict=True)) for row in zip(*columns, strict=True)],
            f"{run.name}_risk_coverage",
            dict.fromkeys(("certainty", "coverage", "risk"), "%.3f"),
        )
    with right:
        low, high = abstention.band
        st.metric(
            "Abstention band",
            f"{low:.3f} to {high:.3f}",
            help="The model abstains if the "
            + (
                "top probability"
                if abstention.operating is None
                else f"probability of {plain(abstention.operating.rule.positive)}"
            )
            + " is in this range.",
        )
        text_table(_answered(abstention, reliability.test.abstention if reliability.test else None))
        if abstention.bound is not None:
            st.write(plain(abstention.bound.sentence))
        st.caption(
            "With 95 % intervals (Wilson). The band was chosen on the validation images, so those results are slightly "
            "optimistic; the test images are independent."
            + (
                ""
                if abstention.bound is None
                else f" To keep the promise on new images, {FEWER[abstention.rule.by]} of the validation images get no "
                "answer."
            )
        )


FEWER = {"coverage": "fewer", "risk": "more"}
"""What a promise about new images costs, by what it is about."""


def _answered(abstention: Abstention, test: AbstentionRates | None) -> list[dict[str, Any]]:
    """Return the rows of the table: what was asked, and what came of it."""
    titles = {"coverage": ("answered", "at least"), "risk": ("errors among answered", "at most")}
    rule, validation = abstention.rule, abstention.validation
    return [
        {
            "metric": title,
            "asked": f"{bound} {100 * rule.target:g} %" if rule.by == key else "",
            "validation": str(getattr(validation, key)),
            "test": str(getattr(test, key)) if test else "",
        }
        for key, (title, bound) in titles.items()
    ]

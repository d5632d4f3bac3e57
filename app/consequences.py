"""The parts of the Evaluate page that show what threshold, prediction sets and abstain band lead to."""

from typing import Any

import streamlit as st
from evaluating import PLAIN
from tables import same_numbers

from shpeft import figures
from shpeft import trust as trusting
from shpeft.runs import RunFolder
from shpeft.trust import Answered, Rates, Trust


def threshold(run: RunFolder, trust: Trust) -> None:
    """Sensitivity and specificity at the threshold."""
    point = trust.operating
    if point is None:
        st.info("Choose the class that is looked for, and the threshold is chosen with it.")
        return
    left, right = st.columns(2, gap="large")
    seen = trusting.calibrated(run.validation(), trust.calibration.temperature)
    curve = trusting.threshold_curve(seen, point.rule.positive)
    with left:
        st.plotly_chart(
            figures.threshold_lines(curve, point),
            key="thresholds",
            alt=f"Sensitivity and specificity for {point.rule.positive} at every threshold",
            config=PLAIN,
        )
        st.caption("On the validation images.")
        columns = (curve.thresholds.tolist(), curve.sensitivity.tolist(), curve.specificity.tolist())
        same_numbers(
            [
                dict(zip(("threshold", "sensitivity", "specificity"), row, strict=True))
                for row in zip(*columns, strict=True)
            ],
            f"{run.name}_thresholds",
            dict.fromkeys(("threshold", "sensitivity", "specificity"), "%.3f"),
        )
    with right:
        st.metric(
            "Threshold",
            f"{point.threshold:.3f}",
            help=f"An image counts as {point.rule.positive} when its calibrated probability is at least this.",
        )
        st.dataframe(_rates(point.validation, trust.test.operating if trust.test else None), hide_index=True)
        st.caption(
            "With 95 % intervals (Wilson). The validation images chose the threshold, so that they flatter it a "
            "little; the test images did not.",
            help="Predictive values hold at the share of the class among these images. Where the class is rarer, the "
            "positive predictive value is lower. The intervals take images as independent: with several images of a "
            "patient they are too narrow.",
        )


def _rates(validation: Rates, test: Rates | None) -> list[dict[str, str]]:
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "ppv": "positive predictive value",
        "npv": "negative predictive value",
    }
    return [
        {"measure": title, "validation": str(getattr(validation, key)), "test": str(getattr(test, key)) if test else ""}
        for key, title in names.items()
    ]


def sets(trust: Trust) -> None:
    """Whether the sets hold what was asked, and how large they are."""
    for caution in trust.sets.cautions:
        st.warning(caution, icon=":material/warning:")
    low, high = trust.sets.expected
    found = trust.test.coverage if trust.test else None
    left, middle, right = st.columns(3)
    left.metric(
        "Expected coverage",
        f"{low:.0%} to {high:.0%}",
        border=True,
        help="Chance in the drawing of the validation images: with as many as there are, the coverage on new images "
        "lies in this range, in 95 % of draws. More validation images make it narrower.",
    )
    if found is None:
        return
    middle.metric(
        "Coverage on the test images",
        f"{found.covered.value:.1%}",
        border=True,
        help=f"How often the set held the true class: {found.covered}.",
    )
    right.metric(
        "Classes in a set",
        f"{found.mean_size:.2f}",
        border=True,
        help=f"On average; 1 is a plain answer, {len(trust.classes)} says nothing at all.",
    )
    left, right = st.columns(2, gap="large")
    left.dataframe(
        [{"true class": name, "sets that hold it": str(share)} for name, share in found.by_class.items()],
        hide_index=True,
    )
    right.dataframe(
        [{"classes in the set": size, "test images": count} for size, count in found.sizes.items()], hide_index=True
    )
    st.caption(
        "The promise holds for images that are exchangeable with the validation images: same source, same mix. These "
        "have also chosen the training's best epoch and the temperature, which weakens it a little; the coverage on "
        "the test images is the honest number. The most probable class is in every set."
    )


def abstaining(run: RunFolder, trust: Trust) -> None:
    """How many errors remain among the answered images."""
    found = trust.abstention
    if found is None:
        return
    left, right = st.columns(2, gap="large")
    seen = trusting.calibrated(run.validation(), trust.calibration.temperature)
    curve = trusting.risk_coverage(seen, found.operating)
    with left:
        chosen = found.validation.coverage.value
        st.plotly_chart(
            figures.risk_coverage_curve(curve, chosen),
            key="risk",
            alt="Errors among the answered images, against the share answered",
            config=PLAIN,
        )
        st.caption("The risk–coverage curve on the validation images. The further below the dashed line, the better.")
        columns = (curve.certainty.tolist(), curve.coverage.tolist(), curve.risk.tolist())
        same_numbers(
            [dict(zip(("certainty", "coverage", "risk"), row, strict=True)) for row in zip(*columns, strict=True)],
            f"{run.name}_risk_coverage",
            dict.fromkeys(("certainty", "coverage", "risk"), "%.3f"),
        )
    with right:
        low, high = found.band
        st.metric(
            "Abstain band",
            f"{low:.3f} to {high:.3f}",
            help="The model abstains while the "
            + ("top probability" if found.operating is None else f"probability of {found.operating.rule.positive}")
            + " lies in this range.",
        )
        st.dataframe(_answered(found.validation, trust.test.abstention if trust.test else None), hide_index=True)
        st.caption(
            "With 95 % intervals (Wilson). The validation images chose the band, so that they flatter it a little."
        )


def _answered(validation: Answered, test: Answered | None) -> list[dict[str, Any]]:
    titles = {"coverage": "answered", "risk": "of those wrong"}
    return [
        {"measure": title, "validation": str(getattr(validation, key)), "test": str(getattr(test, key)) if test else ""}
        for key, title in titles.items()
    ]

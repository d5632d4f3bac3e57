"""What fine-tuning changed for one image: the score's change by trained weight, and the strength λ."""

from typing import Any

import streamlit as st

from app.views.diagnose import model_tasks
from app.views.diagnose.image import Case
from app.widgets import layout
from app.widgets.charts import chart
from app.widgets.data_table import csv_text
from shpeft import figures
from shpeft.diagnosis import Diagnosis
from shpeft.evaluation import Reliability
from shpeft.explanation.attribution import (
    STRENGTHS,
    StrengthCurve,
    WeightAttribution,
    attribute_weights,
    expected_seconds,
    strength_curve,
)
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress

LOGIT = (
    "The score of a class before it is turned into a probability (logit). Classes compete: a probability can fall "
    "although its score rises."
)


STANDARDIZED = "The predicted number, in standard deviations of the training images from their mean."


def weight_attribution(run: RunFolder, case: Case, diagnosis: Diagnosis) -> None:
    """Draw the attribution of the score's change to the trained weights."""
    target = diagnosis.classes[0]
    if diagnosis.estimate is None:
        target = st.selectbox(
            "For the score of",
            [name for name, _ in diagnosis.ranked()],
            key=f"weights-target-{run.name}-{case.digest}",
            width=400,
        )

    def work(loaded: LoadedRun, progress: Progress) -> tuple[WeightAttribution, StrengthCurve]:
        delta, reliability = loaded.delta, loaded.reliability
        temperature = reliability.calibration.temperature if isinstance(reliability, Reliability) else None
        with loaded.pretrained() as base:
            image, position = base.transform(case.image), delta.classes.index(target)
            attributed = attribute_weights(base, delta, image, position, progress=progress)
            return attributed, strength_curve(base, delta, image, temperature=temperature, progress=progress)

    with layout.error_boundary():
        seconds = expected_seconds(model_tasks.pass_time(run))
        result = model_tasks.result_or_progress(run, (case.digest, target, "weights"), work, "Attribute", seconds)
        if result is not None:
            _attribution_charts(case, target, *result)


def _attribution_charts(case: Case, target: str, attributed: WeightAttribution, curve: StrengthCurve) -> None:
    st.markdown(
        f"Fine-tuning changed the score of **{plain(target)}** from {attributed.before:+.3f} to "
        f"{attributed.after:+.3f}, by **{attributed.change:+.3f}**.",
        help=LOGIT if curve.unit is None else STANDARDIZED,
    )
    st.caption(_residual(attributed))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.header("By block and matrix", anchor=False)
        chart(
            figures.attribution_heatmap(attributed.layers()),
            key="attribution",
            alt=f"Heatmap: change of the score of {target}, by block and matrix",
        )
        st.caption("Blue: these trained weights raised the score. Orange: they lowered it.")
    with right:
        _strength(curve)
    _tables(case, attributed)


STRENGTH_ALT = "Probability of each class against the strength λ"


def _residual(attributed: WeightAttribution) -> str:
    accuracy = "" if attributed.converged else " The residual exceeds the tolerance, so the attributions are rough."
    return (
        f"The attributions of the {attributed.delta.k:,} trained weights add up to {attributed.backbone:+.4f}; the "
        f"residual is {attributed.residual:+.1e}, {layout.share(attributed.relative_residual)} of their total effect, "
        f"with {attributed.steps:,} steps from the pretrained to the fine-tuned weights.{accuracy} Both scores use the "
        "fine-tuned classifier; its own change is not included."
    )


@st.fragment
def _strength(curve: StrengthCurve) -> None:
    """Draw the probabilities at the strength of a slider, which redraws only this part."""
    st.header("With more or less fine-tuning", anchor=False)
    strength = st.select_slider(
        "Strength λ",
        STRENGTHS,
        1.0,
        key="set_strength",
        persist_state="session",
        format_func=lambda value: f"{value:.1f}",
        help="Each trained weight changes λ times as much as in fine-tuning: 0 is the pretrained backbone, 1 the "
        "fine-tuned model, and values above 1 exaggerate the change.",
    )
    chart(
        figures.strength_curve(curve, strength),
        key="strength",
        alt="Prediction against the strength λ" if curve.unit is not None else STRENGTH_ALT,
    )
    st.markdown(
        f"At λ = {strength:.1f}: "
        + ", ".join(f"{plain(name)} **{plain(curve.shown(value))}**" for name, value in curve.at(strength).items())
        + "."
    )
    st.caption(
        "The prediction of this image, without its interval, which was fitted at λ = 1."
        if curve.unit is not None
        else "Calibrated as on the other pages. The calibration was fitted at λ = 1; elsewhere it is an extrapolation."
        if curve.calibrated
        else "Not calibrated: this run has no validation results to calibrate with."
    )
    with st.expander("Show as a table"):
        st.dataframe([{"λ": at, **curve.at(at)} for at in curve.strengths], hide_index=True)


def _tables(case: Case, attributed: WeightAttribution) -> None:
    layers = [
        {
            "block": layer.block,
            "matrix": layer.matrix,
            "trained weights": layer.k,
            "score change": layer.total,
            "absolute change": layer.gross,
        }
        for layer in attributed.layers()
    ]
    weights = [
        {
            "parameter": weight.name,
            "score change": weight.attribution,
            "weight change": weight.delta,
            "position": ", ".join(map(str, weight.position)),
        }
        for weight in attributed.top()
    ]
    left, right = st.columns([3, 2], gap="large")
    with left:
        _table("By block and matrix, as a table", layers, f"attribution_layers_{case.digest}.csv")
    with right:
        _table(f"The {len(weights)} weights with the largest effect", weights, f"attribution_weights_{case.digest}.csv")


def _table(title: str, rows: list[dict[str, Any]], file: str) -> None:
    st.header(title, anchor=False)
    signed = st.column_config.NumberColumn(format="%+.4f")
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "score change": signed,
            "absolute change": st.column_config.NumberColumn(
                format="%.4f", help="The sum of absolute changes: increases and decreases do not cancel."
            ),
            "weight change": st.column_config.NumberColumn(format="%+.2e"),
        },
    )
    st.download_button(
        "Download CSV", csv_text(rows), file, "text/csv", key=file, on_click="ignore", icon=":material/download:"
    )

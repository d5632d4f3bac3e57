"""What the fine-tuning did for one image: the score's change by trained weights, and its strength λ."""

from typing import Any

import shared
import streamlit as st
import working
from diagnosing import Case
from tables import csv_text

from shpeft import figures
from shpeft.attribution import (
    STRENGTHS,
    StrengthCurve,
    WeightAttribution,
    attribute_weights,
    expected_seconds,
    strength_curve,
)
from shpeft.diagnosis import Diagnosis
from shpeft.pipeline import LoadedRun
from shpeft.progress import Progress
from shpeft.runs import RunFolder

LOGIT = (
    "The score of a class before it becomes a probability. Scores of different classes compete, so a class's "
    "probability can fall while its score rises."
)


def section(run: RunFolder, case: Case, found: Diagnosis) -> None:
    """Offer the attribution to the trained weights, and show it."""
    st.header("What the fine-tuning did for this scan", anchor=False)
    shown = st.toggle(
        "Share the change of the score out among the trained weights",
        key="set_weights",
        help="The fine-tuned model differs from the pretrained one in a few weights only. How far did each of them "
        "move the score of this image?",
    )
    if not shown:
        return
    target = st.selectbox(
        "For the score of",
        [name for name, _ in found.ranked()],
        key=f"weights-target-{run.name}-{case.digest}",
        width=400,
    )

    def work(loaded: LoadedRun, progress: Progress) -> tuple[WeightAttribution, StrengthCurve]:
        delta = loaded.delta
        with loaded.pretrained() as base:
            image, position = base.transform(case.image), delta.classes.index(target)
            attributed = attribute_weights(base, delta, image, position, progress=progress)
            return attributed, strength_curve(base, delta, image, progress=progress)

    with shared.boundary():
        seconds = expected_seconds(working.pace(run))
        made = working.done(run, (case.digest, target, "weights"), work, "Share it out", seconds)
        if made is not None:
            _shown(case, target, *made)


def _shown(case: Case, target: str, attributed: WeightAttribution, curve: StrengthCurve) -> None:
    st.markdown(
        f"The fine-tuning moved the score of **{target}** from {attributed.before:+.3f} to {attributed.after:+.3f}: "
        f"by **{attributed.change:+.3f}**.",
        help=LOGIT,
    )
    st.caption(_residual(attributed))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("By block and matrix", anchor=False)
        st.plotly_chart(
            figures.attribution_heatmap(attributed.layers()),
            key="attribution",
            alt=f"Heatmap: change of the score of {target}, by block and matrix",
            config={"displayModeBar": False},
        )
        st.caption("Blue: the trained weights there raised the score. Orange: they lowered it.")
    with right:
        _strength(curve)
    _tables(case, attributed)


def _residual(attributed: WeightAttribution) -> str:
    reached = "" if attributed.converged else " More than the tolerance: read the parts as rough."
    return (
        f"The parts of the {attributed.delta.k:,} trained weights add up to {attributed.backbone:+.4f}; the residual "
        f"is {attributed.residual:+.1e}, {shared.share(attributed.relative_residual)} of all that they did, with "
        f"{attributed.steps} steps from the pretrained weights to the fine-tuned ones.{reached} Both scores are under "
        "the fine-tuned classifier, whose own change is not part of this."
    )


@st.fragment
def _strength(curve: StrengthCurve) -> None:
    """The probabilities at a strength that a slider chooses; the rest of the page stays as it is."""
    st.subheader("With more or less of the fine-tuning", anchor=False)
    strength = st.select_slider(
        "Strength λ",
        STRENGTHS,
        1.0,
        key="set_strength",
        format_func=lambda value: f"{value:.1f}",
        help="Each trained weight is moved λ times as far as the fine-tuning moved it: 0 is the pretrained backbone, 1 "
        "the fine-tuned model, and more goes further the same way.",
    )
    st.plotly_chart(
        figures.strength_lines(curve, strength),
        key="strength",
        alt="Probability of each class against the strength λ",
        config={"displayModeBar": False},
    )
    st.markdown(
        f"At λ = {strength:.1f}: " + ", ".join(f"{name} **{p:.1%}**" for name, p in curve.at(strength).items()) + "."
    )
    st.caption("As the model gives them, not calibrated: the calibration is that of the fine-tuned model alone.")
    with st.expander("Every strength in a table"):
        st.dataframe([{"λ": at, **curve.at(at)} for at in curve.strengths], hide_index=True)


def _tables(case: Case, attributed: WeightAttribution) -> None:
    layers = [
        {
            "block": layer.block,
            "matrix": layer.matrix,
            "trained weights": layer.k,
            "change of the score": layer.total,
            "without cancelling": layer.gross,
        }
        for layer in attributed.layers()
    ]
    weights = [
        {
            "parameter": weight.name,
            "change of the score": weight.attribution,
            "moved by": weight.moved,
            "place": ", ".join(map(str, weight.place)),
        }
        for weight in attributed.top()
    ]
    left, right = st.columns([3, 2], gap="large")
    with left:
        _table("The same numbers in a table", layers, f"attribution_layers_{case.digest}.csv")
    with right:
        _table(f"The {len(weights)} weights that did most", weights, f"attribution_weights_{case.digest}.csv")


def _table(title: str, rows: list[dict[str, Any]], file: str) -> None:
    st.subheader(title, anchor=False)
    signed = st.column_config.NumberColumn(format="%+.4f")
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "change of the score": signed,
            "without cancelling": st.column_config.NumberColumn(
                format="%.4f", help="The sum of the sizes: what pulls up and what pulls down does not cancel here."
            ),
            "moved by": st.column_config.NumberColumn(format="%+.2e"),
        },
    )
    st.download_button(
        "Download as CSV", csv_text(rows), file, "text/csv", key=file, on_click="ignore", icon=":material/download:"
    )

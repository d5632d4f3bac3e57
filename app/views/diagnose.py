"""Diagnose: one image, the model's probabilities, and where its score is sensitive."""

import diagnosing
import shared
import streamlit as st

st.title("Diagnose")
run = shared.pick_run(
    shared.runs_with("delta.safetensors"),
    "There is no finished run yet: a model is needed first.",
    "Only a finished run has a model. Choose another run.",
)
picture, words = st.columns([3, 2], gap="large")
with words:
    case = diagnosing.choose_image(run)
if case is None:
    picture.info("Upload an image, or take one of the run's test images.")
    st.stop()

with words:
    found = diagnosing.probabilities(run, case)
    st.subheader(found.predicted)
    for name, probability in found.ranked():
        st.progress(probability, f"{name}: {probability:.1%}")
    st.caption(
        "The model's probabilities. They are not calibrated: 90 % does not mean right in 9 of 10 such cases."
        + (f" The dataset's own label is **{case.label}**." if case.label else "")
    )
    explained, opacity = diagnosing.explanation(run, case, found)
with picture:
    diagnosing.view(case, explained, opacity)
with words:
    diagnosing.downloads(case, explained or found, opacity)

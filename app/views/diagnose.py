"""Diagnose: one image, the model's probabilities, and where its score is sensitive."""

import diagnosing
import shared
import streamlit as st

picture, words = st.columns([3, 2], gap="large")
picture.title("Diagnose", anchor=False)
with words:
    run = shared.pick_run(
        shared.runs_with("delta.safetensors"),
        "There is no finished run yet: a model is needed first.",
        "Only a finished run has a model. Choose another run.",
    )
    case = diagnosing.choose_image(run)
if case is None:
    picture.info(
        "Upload an image, or take one of the run's test images. An upload stays in this computer's memory: it is not "
        "saved, and its name is not kept."
    )
    st.stop()

with words:
    found = diagnosing.probabilities(run, case)
    diagnosing.ranking(case, found)
    explained = diagnosing.explanation(run, case, found)
with picture:
    opacity = diagnosing.view(case, explained)
with words:
    diagnosing.downloads(case, explained or found, opacity)

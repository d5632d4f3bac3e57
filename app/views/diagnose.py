"""Diagnose: one image, the model's probabilities, where its score is sensitive, and what the fine-tuning did for it."""

import attributing
import diagnosing
import explaining
import reporting
import shared
import streamlit as st
import working

working.begin()
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
    found = explaining.probabilities(run, case)
    diagnosing.ranking(case, found)
    explained = explaining.explanation(run, case, found)
with picture:
    opacity = diagnosing.view(case, explained)
with words:
    checked = None if explained is None else explaining.sanity(run, case, explained)
    diagnosing.downloads(case, explained or found, opacity, checked)
    reporting.offer(run, case, found, explained, checked)
attributing.section(run, case, found)
working.finish()

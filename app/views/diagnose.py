"""Diagnose: one image, the model's probabilities, where its score is sensitive, and what the fine-tuning did for it."""

import attributing
import diagnosing
import explaining
import readfirst
import reporting
import shared
import streamlit as st
import working

working.begin()
left, words = st.columns([3, 2], gap="large")
picture = left.container(key="picture")
st.html("<style>div:has(> .st-key-picture){position:sticky;top:4rem}</style>")  # in sight of what is said of it
picture.title("Diagnose", anchor=False)
with words:
    run = shared.pick_run(
        shared.runs_with("delta.safetensors"),
        "There is no finished run yet: a model is needed first.",
        "Only a finished run has a model. Choose another run.",
    )
    case = diagnosing.choose_image(run)
    reading = readfirst.wanted()
if case is None:
    picture.info(
        "Upload an image, or take one of the run's test images. An upload stays in this computer's memory: it is not "
        "saved, and its name is not kept."
    )
    st.stop()
if reading and readfirst.pending(run, case):
    with picture:
        diagnosing.view(case)
    with words:
        readfirst.ask(run, case)
        readfirst.summary(run)
    st.stop()

with words:
    found = explaining.probabilities(run, case)
    readfirst.seen(run, case, found)
    diagnosing.ranking(case, found)
    explained = explaining.explanation(run, case, found)
with picture:
    diagnosing.view(case, explained)
with words:
    checked = None if explained is None else explaining.sanity(run, case, explained)
    diagnosing.downloads(case, explained or found, checked)
    reporting.offer(run, case, found, explained, checked)
    if reading:
        readfirst.summary(run)
attributing.section(run, case, found)
working.finish()

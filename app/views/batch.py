"""Batch: a folder or a zip of images, diagnosed in the background, to a CSV."""

import batch
import shared
import streamlit as st

st.title("Batch", anchor=False)
st.write(
    "Diagnose a folder or a zip of images and DICOM files in the background. The result is a CSV with a row a file, "
    "under ids that tell nothing of a file's name."
)
run = shared.pick_run(
    shared.runs_with("delta.safetensors"),
    "There is no finished run yet: a model is needed first.",
    "Only a finished run has a model. Choose another run.",
)
places = batch.choose(run)
batch.all_of(run, places)

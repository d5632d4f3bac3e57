"""Importance: which weights matter, by block and matrix, and which ones another budget selects."""

import streamlit as st

from app.views.importance import budget_slider, heatmaps, run_score
from app.widgets import session

st.title("Importance", anchor=False)
st.write("Before training, every weight that may change gets a score. The weights with the highest scores are trained.")
run = session.choose_run(
    session.runs_with("importance.npz", "support.safetensors"),
    if_none="Start a run first; this page needs its scores.",
    if_unsuitable="It has no scores yet. Choose another run.",
)
if run.config.selection.scope.startswith("last:"):
    st.caption("This run could change only the last blocks. Those before them stay as pretrained and are not shown.")
left, middle, right = st.columns([2, 3, 2])
with left:
    score = run_score.choose_score(run)
with middle:
    quantity = heatmaps.choose_quantity()
with right:
    other = run_score.choose_other(score)
budget = budget_slider.choose_budget(score)

layers = score.layers(budget)
heatmaps.summary(score, quantity, layers, budget)
other_layers = [] if other is None else run_score.layers_or_own(other, budget)
heatmaps.heatmaps(score, layers, other, other_layers, quantity)
heatmaps.selected_matrix(score, layers, budget)
heatmaps.all_matrices(score, layers, other_layers)

"""Evaluate: how good a model is on the test images, and how far its probabilities can be trusted."""

import consequences
import deciding
import evaluating
import shared
import streamlit as st

from shpeft.runs import RunFolder
from shpeft.trust import Trust


@shared.part
def trusted(run: RunFolder, kept: Trust) -> None:
    """How far its probabilities can be trusted, and what follows from the choices made here."""
    calibration, threshold, sets, abstaining, keeping = (st.container() for _ in range(5))
    with threshold:
        rule = deciding.threshold_rule(run, kept)
    with sets:
        set_rule = deciding.set_rule(run, kept)
    with abstaining:
        abstention_rule = deciding.abstention_rule(run, kept, rule)
    trust = deciding.fit(run, kept, rule, set_rule, abstention_rule)

    with calibration:
        evaluating.calibration(run, trust)
    with threshold:
        consequences.threshold(run, trust)
    with sets:
        consequences.sets(trust)
    with abstaining:
        consequences.abstaining(run, trust)
    with keeping:
        deciding.keep(run, kept, trust)


st.title("Evaluate", anchor=False)
st.write(
    "How well does the model tell the classes apart on *test* images, which it has never seen? And how far can one "
    "trust its probabilities? The second is fitted on the *validation* images, which it was not trained on either."
)
run = shared.pick_run(
    shared.runs_with("predictions.csv"),
    "There is no finished run yet: a model is needed first.",
    "Only a finished run has been tested. Choose another run.",
)
predictions = run.predictions()

evaluating.curves(run, predictions)
evaluating.confusion(run, predictions)
evaluating.subgroups(predictions)

kept = evaluating.trust_of(run)
if kept is not None:
    trusted(run, kept)

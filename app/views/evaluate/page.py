"""Evaluate: what the model achieves, what gets no answer, its decision rules, and the curves behind them."""

import streamlit as st

from app.views.evaluate import decision_rules, metrics, regression, rule_performance
from app.widgets import layout, session
from shpeft.evaluation import Reliability
from shpeft.pipeline.evaluated_run import EvaluatedRun
from shpeft.support.markdown import plain
from shpeft.tasks import MultiLabel, Regression


@layout.section
def answers_and_rules(run: EvaluatedRun) -> None:
    """Draw the headline, the gate, the decision rules and their performance; a changed rule is saved at once."""
    saved = run.reliability()
    assert saved is not None  # the page ends earlier without it
    headline = st.container()
    threshold, gate, sets, abstention, calibration = st.tabs(
        ["Must not be missed", "No answer", "Still possible", "Abstention", "Calibration"]
    )
    with threshold:
        rule = decision_rules.threshold_rule(run, saved)
    with sets:
        set_rule = decision_rules.set_rule(run, saved)
    with abstention:
        abstention_rule = decision_rules.abstention_rule(run, saved, rule)
    reliability = decision_rules.save(run, saved, rule, set_rule, abstention_rule)

    with headline:
        rule_performance.headline(reliability)
        decision_rules.undo_button(run)
    with gate:
        rule_performance.gate(run, reliability)
    with threshold:
        rule_performance.threshold_performance(run, reliability)
    with sets:
        rule_performance.set_performance(reliability)
    with abstention:
        rule_performance.abstention_performance(run, reliability)
    with calibration:
        metrics.calibration(run, reliability)


st.title("Evaluate", anchor=False)
folder = session.choose_run(
    session.runs_with("predictions.csv"),
    if_none="Finish a run first; this page needs a trained model.",
    if_unsuitable="Only finished runs are tested. Choose another run.",
)
run = EvaluatedRun(folder)
if isinstance(run.test().task, Regression):
    regression.show(folder)
    st.stop()
if isinstance(run.test().task, MultiLabel):
    findings = list(run.test().classes)
    finding = st.segmented_control(
        "Finding", findings, default=findings[0], required=True, key=f"of-{folder.name}", format_func=plain
    )
    run = EvaluatedRun(folder, finding)
predictions = run.test()
saved: Reliability | None = metrics.saved_reliability(run)
if saved is not None:
    answers_and_rules(run)
curves, confusion, subgroups = st.tabs(["One class against the rest", "Confusion matrix", "Subgroups"])
with curves:
    metrics.roc_and_precision_recall(run, predictions)
with confusion:
    metrics.confusion_matrix(run, predictions)
with subgroups:
    metrics.subgroups(predictions)

"""Settings of the Evaluate page: decision threshold, prediction sets and abstention, saved as they are chosen."""

from typing import Literal

import streamlit as st

from app.widgets import account, layout
from shpeft.config.schema import CONFIDENCE
from shpeft.errors import ShpeftError
from shpeft.evaluation import AbstentionRule, DecisionRules, Reliability, SetRule, ThresholdRule
from shpeft.pipeline.evaluated_run import EvaluatedRun
from shpeft.support.markdown import plain

RULES: dict[Literal["youden", "sensitivity", "specificity", "cost"], tuple[str, str]] = {
    "youden": ("Youden", "The highest sum of sensitivity and specificity."),
    "sensitivity": ("Fixed sensitivity", "At least this share of the positive images is detected."),
    "specificity": ("Fixed specificity", "At least this share of the negative images is called negative."),
    "cost": ("Cost", "The lowest expected cost, given the prevalence and the cost of a miss."),
}
METHODS: dict[Literal["lac", "aps"], tuple[str, str]] = {
    "lac": ("Smallest sets", "LAC: every class with a high enough probability. The smallest sets on average."),
    "aps": (
        "Adaptive sets",
        "APS: the most probable classes until their sum is high enough. Larger sets for hard images.",
    ),
}
ABSTENTION: dict[Literal["coverage", "risk"], tuple[str, float]] = {
    "coverage": ("Share of images to answer", 0.9),
    "risk": ("Share of errors to allow", 0.05),
}
"""Rules of abstention, each with its default target."""

CERTAINTY: dict[Literal["maximum", "threshold"], str] = {
    "maximum": "Top probability",
    "threshold": "Distance from the threshold",
}
NONE = "None"


def _key(run: EvaluatedRun, name: str) -> str:
    """Return the key of a widget; undoing a change gives all widgets new keys, and so the saved values."""
    return f"{name}-{run.name}-{st.session_state.get(f'rules-undone-{run.name}', 0)}"


def threshold_rule(run: EvaluatedRun, saved: Reliability) -> ThresholdRule | None:
    """Draw the settings of the decision threshold; return the rule, or None without a positive class."""
    before = saved.rules.threshold
    left, middle, right = st.columns([1, 2, 1], gap="medium")
    options = [NONE, *run.positive_classes()]
    positive = left.selectbox(
        "Class",
        options,
        options.index(before.positive) if before else 0,
        key=_key(run, "positive"),
        help="Usually the disease. All other classes count as negative. Its threshold is fitted on the validation "
        "images; the test images show what it achieves.",
    )
    rule = middle.segmented_control(
        "Rule",
        list(RULES),
        default=before.rule if before else "sensitivity",
        required=True,
        key=_key(run, "rule"),
        format_func=lambda name: RULES[name][0],
        disabled=positive == NONE,
    )
    middle.caption(RULES[rule][1])
    target, prevalence, ratio = before.target if before else 0.95, before.prevalence if before else None, 1.0
    if rule in ("sensitivity", "specificity"):
        target = right.number_input(f"Target {plain(rule)}", 0.5, 1.0, target, 0.01, key=_key(run, f"target-{rule}"))
    if rule == "cost":
        prevalence = right.number_input(
            "Prevalence",
            0.0001,
            0.9999,
            prevalence,
            0.01,
            key=_key(run, "prevalence"),
            format="%.4f",
            placeholder="as in the validation images",
            help="The share of positive images where the model will be used; rarely the same as in a study.",
        )
        ratio = right.number_input(
            "Cost of a miss, in false alarms",
            0.01,
            10_000.0,
            before.cost_ratio if before else 10.0,
            key=_key(run, "ratio"),
        )
    confidence = before.confidence if before and before.rule == rule else CONFIDENCE
    return None if positive == NONE else ThresholdRule(positive, rule, target, prevalence, ratio, confidence)


def set_rule(run: EvaluatedRun, saved: Reliability) -> SetRule:
    """Draw the settings of the prediction sets; return the rule."""
    st.write("The classes that a diagnosis lists hold the true one at the rate you choose, for images like these.")
    before = saved.rules.sets
    left, middle, right = st.columns([1, 2, 1], gap="medium", vertical_alignment="center")
    coverage = left.number_input(
        "Coverage",
        0.5,
        0.99,
        before.coverage,
        0.01,
        key=_key(run, "coverage"),
        help="How often the set contains the true class. A higher value needs larger sets and more validation images.",
    )
    method = middle.segmented_control(
        "Method",
        list(METHODS),
        default=before.method,
        required=True,
        key=_key(run, "method"),
        format_func=lambda name: METHODS[name][0],
    )
    middle.caption(METHODS[method][1])
    by_class = right.toggle(
        "For each class",
        before.by_class,
        key=_key(run, "by_class"),
        help="Guarantees the coverage for each class, even rare ones, and not only on average.",
    )
    return SetRule(method, coverage, by_class)


def abstention_rule(run: EvaluatedRun, saved: Reliability, rule: ThresholdRule | None) -> AbstentionRule | None:
    """Draw the settings of abstention; return the rule, or None if the model always answers."""
    st.write("The images that the model is least certain about get no answer.")
    before = saved.rules.abstention or AbstentionRule()
    left, middle, right = st.columns([1, 2, 1], gap="medium", vertical_alignment="center")
    if not left.toggle("Abstain", saved.rules.abstention is not None, key=_key(run, "abstain")):
        return None
    by = middle.segmented_control(
        "Rule",
        list(ABSTENTION),
        default=before.by,
        required=True,
        key=_key(run, "by"),
        format_func=lambda name: ABSTENTION[name][0],
    )
    target = right.number_input(
        "Share",
        0.0,
        1.0,
        before.target if by == before.by else ABSTENTION[by][1],
        0.01,
        key=_key(run, f"abstention-{by}"),
    )
    on: Literal["maximum", "threshold"] = "maximum"
    if rule is not None:
        on = middle.segmented_control(
            "Certainty",
            list(CERTAINTY),
            default=before.on,
            required=True,
            key=_key(run, "on"),
            format_func=CERTAINTY.__getitem__,
        )
    return AbstentionRule(by, target, on, before.confidence)


def save(
    run: EvaluatedRun, saved: Reliability, rule: ThresholdRule | None, sets: SetRule, abstention: AbstentionRule | None
) -> Reliability:
    """Save the rules with the run once a widget has changed; show the error and keep the saved ones if that fails.

    Rules that the command line saved may hold what no widget shows: drawing the page must not change them.
    """
    rules = DecisionRules(rule, sets, abstention)
    before, drawn = st.session_state.get(f"rules-drawn-{run.name}", (None, None))
    if before != saved.rules:
        before, drawn = st.session_state[f"rules-drawn-{run.name}"] = (saved.rules, rules)
    if rules in (saved.rules, drawn):
        return saved
    own = not run.is_example and account.may(run.folder.path)
    if not own:
        whose = "The example is read-only" if run.is_example else "This run belongs to another account, or to nobody"
        st.info(f"{plain(whose)}: changes are shown here and not saved.")
    try:
        reliability = run.fit(rules)
        if own:
            run.save(rules)
            st.session_state.setdefault(f"rules-before-{run.name}", []).append(saved.rules)
    except ShpeftError as error:
        layout.show_error(error)
        return saved
    return reliability


def undo_button(run: EvaluatedRun) -> None:
    """Draw the button that takes back the last change of the rules, and say that changes are saved."""
    before: list[DecisionRules] = st.session_state.get(f"rules-before-{run.name}", [])
    if not before:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(":material/check: Saved. New diagnoses use these settings.")
        if st.button("Undo", icon=":material/undo:"):
            account.check(run.folder.path, f"The run {run.folder.name}")
            run.save(before.pop())
            st.session_state[f"rules-undone-{run.name}"] = st.session_state.get(f"rules-undone-{run.name}", 0) + 1
            st.rerun()

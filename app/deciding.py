"""The parts of the Evaluate page that choose: threshold, prediction sets and abstain band, kept with the run."""

import shared
import streamlit as st

from shpeft import trust as trusting
from shpeft.errors import ShpeftError
from shpeft.pipeline import choose_trust
from shpeft.runs import RunFolder, find_run
from shpeft.trust import AbstentionRule, Choices, SetRule, ThresholdRule, Trust

RULES = {
    "youden": ("Youden", "The highest sum of sensitivity and specificity: both count alike."),
    "sensitivity": ("Fixed sensitivity", "At least this share of the images with the class is found."),
    "specificity": ("Fixed specificity", "At least this share of the images without the class is left alone."),
    "cost": ("Cost", "The lowest expected cost, at the prevalence and the price of a miss that you give."),
}
METHODS = {
    "lac": ("Smallest sets", "LAC: every class whose probability is high enough. The smallest sets on average."),
    "aps": ("Adaptive sets", "APS: the most probable classes until they are enough together. Larger for hard images."),
}
NOTHING = "None yet"


def threshold_rule(run: RunFolder, kept: Trust) -> ThresholdRule | None:
    """How the threshold is to be chosen; None without a class that is looked for."""
    st.header("From which probability on is it positive?", anchor=False)
    st.write(
        "An operating threshold turns the probability of *one* class into a decision: that class against all "
        "the others. It is chosen on the validation images; the test images say what it is worth."
    )
    was = kept.choices.threshold
    left, middle, right = st.columns([1, 2, 1], gap="medium")
    options = [NOTHING, *kept.classes]
    positive = left.selectbox(
        "The class that is looked for",
        options,
        options.index(was.positive) if was else 0,
        key=f"positive-{run.name}",
        help="Most often the disease. All other classes together count as negative.",
    )
    rule = middle.segmented_control(
        "Chosen by",
        list(RULES),
        default=was.rule if was else "youden",
        required=True,
        key=f"rule-{run.name}",
        format_func=lambda name: RULES[name][0],
        disabled=positive == NOTHING,
    )
    middle.caption(RULES[rule][1])
    target, prevalence, ratio = was.target if was else 0.95, was.prevalence if was else None, 1.0
    if rule in ("sensitivity", "specificity"):
        target = right.number_input(f"Wanted {rule}", 0.5, 1.0, target, 0.01, key=f"target-{rule}-{run.name}")
    if rule == "cost":
        prevalence = right.number_input(
            "Prevalence",
            0.0001,
            0.9999,
            prevalence,
            0.01,
            key=f"prevalence-{run.name}",
            format="%.4f",
            placeholder="as in the validation images",
            help="The share of the class among the images on which the model is to be used; rarely that of a study.",
        )
        ratio = right.number_input(
            "A miss costs as much as so many false alarms",
            0.01,
            10_000.0,
            was.cost_ratio if was else 10.0,
            key=f"ratio-{run.name}",
        )
    return None if positive == NOTHING else ThresholdRule(positive, rule, target, prevalence, ratio)


def set_rule(run: RunFolder, kept: Trust) -> SetRule:
    """Which prediction sets are wanted."""
    st.header("Which classes cannot be ruled out?", anchor=False)
    st.write(
        "A *prediction set* names every class that is plausible for an image, and holds the true one as often as you "
        "ask, as long as new images are like the validation images."
    )
    was = kept.choices.sets
    left, middle, right = st.columns([1, 2, 1], gap="medium", vertical_alignment="center")
    coverage = left.number_input(
        "Coverage",
        0.5,
        0.99,
        was.coverage,
        0.01,
        key=f"coverage-{run.name}",
        help="How often the set is to hold the true class. More needs larger sets, and more validation images.",
    )
    method = middle.segmented_control(
        "Kind",
        list(METHODS),
        default=was.method,
        required=True,
        key=f"method-{run.name}",
        format_func=lambda name: METHODS[name][0],
    )
    middle.caption(METHODS[method][1])
    by_class = right.toggle(
        "For each class",
        was.by_class,
        key=f"by_class-{run.name}",
        help="Let the coverage hold for the images of every class by themselves, rare ones too, not only on average.",
    )
    return SetRule(method, coverage, by_class)


def abstention_rule(run: RunFolder, kept: Trust, rule: ThresholdRule | None) -> AbstentionRule | None:
    """When the model leaves an image to people."""
    st.header("When should it rather not answer?", anchor=False)
    st.write(
        "The model may *abstain* from the images it is least sure of. The more it leaves out, the fewer errors remain."
    )
    was = kept.choices.abstention or AbstentionRule()
    left, middle, right = st.columns([1, 2, 1], gap="medium", vertical_alignment="center")
    if not left.toggle("Abstain", kept.choices.abstention is not None, key=f"abstain-{run.name}"):
        return None
    by = middle.segmented_control(
        "By",
        ["coverage", "risk"],
        default=was.by,
        required=True,
        key=f"by-{run.name}",
        format_func={"coverage": "Share of images to answer", "risk": "Share of errors to allow"}.get,
    )
    target = right.number_input(
        "Share",
        0.0,
        1.0,
        was.target if by == was.by else {"coverage": 0.9, "risk": 0.05}[by],
        0.01,
        key=f"abstention-{by}-{run.name}",
    )
    on = "maximum"
    if rule is not None:
        on = middle.segmented_control(
            "Sure means",
            ["maximum", "threshold"],
            default=was.on,
            required=True,
            key=f"on-{run.name}",
            format_func={"maximum": "a high top probability", "threshold": "far from the threshold"}.get,
        )
    return AbstentionRule(by, target, on)


@st.cache_data(show_spinner="Fitting on the validation images", max_entries=32)
def _fit(run: str, written: float, choices: Choices) -> Trust:
    found = find_run(run)
    return trusting.fit_trust(found.validation(), choices, found.predictions())


def fit(
    run: RunFolder, kept: Trust, rule: ThresholdRule | None, sets: SetRule, abstention: AbstentionRule | None
) -> Trust:
    """What these choices lead to; what is kept where they lead to nothing."""
    try:
        return _fit(run.name, (run.path / "predictions_val.csv").stat().st_mtime, Choices(rule, sets, abstention))
    except ShpeftError as error:
        shared.complain(error)
        return kept


def keep(run: RunFolder, kept: Trust, trust: Trust) -> None:
    """Keep what was chosen with the run, for every diagnosis that follows."""
    st.divider()
    if trust.choices == kept.choices:
        st.caption(
            ":material/check: These choices are kept with the run: the page Diagnose and the command line use them."
        )
        return
    st.info("These choices differ from those that are kept with the run.")
    if st.button("Keep these choices with the run", type="primary", icon=":material/save:"):
        choose_trust(run, trust.choices)
        st.rerun()

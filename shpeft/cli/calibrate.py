"""``shpeft calibrate``: the reliability of a run's model, and the decision rules of its diagnoses."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shpeft.cli import options, output
from shpeft.config.schema import CONFIDENCE
from shpeft.errors import ConfigError, ShpeftError
from shpeft.runs import RunFolder

if TYPE_CHECKING:
    from shpeft.evaluation import DecisionRules


def calibrate(
    run: Path,
    /,
    *,
    positive: str | None = None,
    rule: Literal["youden", "sensitivity", "specificity", "cost"] = "youden",
    target: float = 0.95,
    prevalence: float | None = None,
    cost_ratio: float = 1.0,
    confidence: float = CONFIDENCE,
    coverage: float = 0.9,
    method: Literal["lac", "aps"] = "lac",
    by_class: bool = True,
    answer: float | None = None,
    max_risk: float | None = None,
    around: Literal["maximum", "threshold"] = "maximum",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Choose the threshold, prediction sets and abstention on a run's validation images; store them with the run.

    Args:
        run: A finished run folder.
        positive: The class to detect; sets an operating threshold.
        rule: How the threshold is chosen.
        target: The sensitivity or specificity to reach.
        prevalence: Prevalence of the class, for rule cost; by default that of the validation images.
        cost_ratio: Cost of a missed case in false alarms, for rule cost.
        confidence: That new images reach the target of rule sensitivity, the share to answer or the share of errors,
            where there are enough validation images.
        coverage: How often prediction sets contain the true class.
        method: How prediction sets are made.
        by_class: Let the coverage hold for each class by itself, and not only on average.
        answer: Least share of new cases that the model answers, the most certain ones.
        max_risk: Or the highest share of errors among the answered cases.
        around: Abstain where the top probability is low, or around the threshold.
    """
    from shpeft.evaluation import AbstentionRule, DecisionRules, SetRule, ThresholdRule

    if answer is not None and max_risk is not None:
        raise ConfigError("Give the share of cases to answer (--answer) or the share of errors (--max-risk), not both.")
    threshold = None if positive is None else ThresholdRule(positive, rule, target, prevalence, cost_ratio, confidence)
    abstention = AbstentionRule("coverage", 0.9 if answer is None else answer, around, confidence)
    if max_risk is not None:
        abstention = AbstentionRule("risk", max_risk, around, confidence)
    rules = DecisionRules(threshold, SetRule(method, coverage, by_class), abstention)
    _carry_out(RunFolder.open(run), rules, device, json)


def _carry_out(folder: RunFolder, rules: "DecisionRules", device: str, json: bool) -> None:
    from shpeft.pipeline import calibrate_run, set_decision_rules

    has_predictions = folder.predictions.validation() is not None
    if not has_predictions or folder.reliability.distances() is None:
        try:
            with output.progress_bar() as (progress, _):
                calibrate_run(folder, device=device, progress=progress)
        except ShpeftError as error:
            if not has_predictions:
                raise
            print(f"The rates of the gate are not measured: {error}", file=sys.stderr)
    reliability = set_decision_rules(folder, rules)
    if json:
        output.as_json({"run": folder.name, **reliability.to_dict()})
        return
    output.any_reliability(reliability)
    output.notice()

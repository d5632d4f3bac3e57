"""The report states what the table holds: numbers that can be computed by hand, and sentences that follow from them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare.analysis.hypotheses import Verdict, compared_with_method, method_verdicts
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.report import figures
from shpeft.errors import RunError
from tests.helpers.comparison_tables import ARMS, CORRECT, QUESTIONS, USUAL, first, made_up, planned, report_on

pytestmark = pytest.mark.usefixtures("no_browser")


def section(text: str, heading: str) -> str:
    """The part of a report under a heading."""
    parts = text.split(f"## {heading}")
    assert len(parts) == 2, f"{heading} is there {len(parts) - 1} times"
    return parts[1].split("\n## ")[0]


def test_comparisons_are_those_of_the_table(tmp_path: Path) -> None:
    plan = planned()
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan)), 400)
    comparisons = {comparison.other.arm: comparison for comparison in bootstrap.compare_all()}
    same, bad = comparisons["same"], comparisons["bad"]
    assert same.mean.verdict == "same"
    assert same.identical
    assert same.tost is None
    assert same.wilcoxon == same.holm == 1
    assert bad.mean.value == pytest.approx(0.2)
    assert bad.mean.verdict == "better"
    assert bad.wilcoxon == 0.25  # the smallest p of three datasets
    assert bad.wilcoxon_holm == 0.75
    assert bad.counts == {"better": 3, "tie": 0, "same": 0, "worse": 0}
    assert bad.pooled.false_claim is not None
    assert bad.pooled.false_claim < 1e-9
    assert (bad.pooled.cases, bad.pooled.only_method) == (600, 120)
    assert bad.discordance["a"].share == pytest.approx(0.2)
    results = bootstrap.results
    assert results.mean(Entry("good", 1e-4), "accuracy") == pytest.approx(0.8025)
    ranking = results.ranking("accuracy")
    assert ranking is not None
    assert {entry.arm for entry in ranking.entries[:2]} == {"good", "same"}
    assert ranking.ranks == (1.5, 1.5, 3.5, 3.5)


def test_every_arm_is_compared_on_the_same_draws(tmp_path: Path) -> None:
    """good − bad and bad − probe add up to good − probe, replicate by replicate."""
    plan = planned()
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, correct=USUAL | {"bad": first(0.7)})), 50)
    good, bad, probe = Entry("good", 1e-4), Entry("bad", 1e-4), Entry("probe", None)
    differences = [bootstrap.difference(x, y, "b", "accuracy") for x, y in ((good, bad), (bad, probe), (good, probe))]
    a, b, total = (difference.replicates for difference in differences if difference is not None)
    np.testing.assert_allclose(a + b, total, atol=1e-12)


def test_better_identical_and_failures_are_stated(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(tried=["Larger steps diverged."]))
    summary = section(text, "Summary")
    assert "its balanced accuracy (the recall averaged over classes) is 80.2 points" in summary
    assert "for the frozen model (probe) it is 60.2" in summary
    assert (
        "Of the 1 arm that it is compared with here, it is better than 1, worse than none, tied with none." in summary
    )
    assert "- **Better** than the frozen model (probe): +20.0" in summary
    assert "better on 3 of 3 datasets" in summary
    assert "not a result yet" not in summary
    against = section(text, "good, 0.01 % against each other arm")
    assert "| same, 0.01 % | the same predictions | identical | 1 | cannot be tested |" in against
    assert "equivalent" not in against
    failures = section(text, "What did not work")
    assert "Not better than the stronger baseline, probe (60.2): bad, 0.01 %." in failures
    assert "18 single trainings diverged." in failures
    assert "- Larger steps diverged." in failures
    setting = section(text, "Setting, hardware and hours")
    assert "cells by processor: 12 Make 0, 12 Make 1." in setting
    assert "24 cells took **0.4 hours**" in setting
    assert "80.2 ± 0.4" in section(text, "Balanced accuracy")
    assert "## What is missing" not in text
    assert "| bad, 0.01 % | 0.001, 0.01 | 0.01 (edge) |" in section(text, "Learning rates")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(rows) == 24
    assert json.loads(rows[-1]["trials"]) == {"0.001": 0.7, "0.01": None}


def test_worse_and_tied_are_stated_as_plainly(tmp_path: Path) -> None:
    plan = planned(arms=ARMS, method="good")
    text = report_on(tmp_path, plan, correct=CORRECT | {"random": CORRECT["LoRA"]})
    summary = section(text, "Summary")
    assert "- **Worse** than full fine-tuning (full): -10.0" in summary
    assert "- **Tied** with weights selected at random (random, 0.01 %)" in summary
    assert "After Holm's adjustment" in summary
    assert "the difference to probe, full remains." in summary


def last_verdict(
    tmp_path: Path, arms: dict[str, Any], correct: dict[str, Any], question: dict[str, Any]
) -> tuple[Results, Verdict]:
    """The results of a plan that asks about random weights and one more question, and the verdict on the latter."""
    plan = planned(arms=arms, questions=[QUESTIONS["random"], question])
    bootstrap = Bootstrap(results := Results(plan, made_up(tmp_path, plan, correct=correct)), 400)
    return results, method_verdicts(bootstrap, bootstrap.compare_all())[-1]


def test_a_control_may_be_compared_with_another_arm_than_the_method(tmp_path: Path) -> None:
    control = {"kind": "sparse", "score": "random", "like": "other"}
    arms = {**ARMS, "other": {"kind": "sparse", "lam": 0.1}, "like": control}
    correct = CORRECT | {"other": first(0.7), "like": first(0.6)}
    question = {"kind": "better", "arm": "other", "than": "like", "topic": "Does the layer matter"}
    results, verdict = last_verdict(tmp_path / "a", arms, correct, question)
    assert verdict.question == "Does the layer matter: is other, 0.01 % above like, 0.01 %?"
    assert verdict.evidence.startswith("+10.0 [")
    assert compared_with_method(results) == [Entry("random", 1e-4)]
    arms["like"] = control | {"like": "good"}
    results, verdict = last_verdict(tmp_path / "b", arms, correct, {"kind": "better", "than": "like"})
    assert verdict.question == "Is it above like, 0.01 %?"
    assert verdict.evidence.startswith("+20.0 [")
    assert compared_with_method(results) == [Entry("random", 1e-4), Entry("like", 1e-4)]


def test_a_question_may_have_a_margin_of_its_own(tmp_path: Path) -> None:
    plan = planned(arms=ARMS, questions=[QUESTIONS["full"], QUESTIONS["full"] | {"by": 0.2}])
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, correct=CORRECT)), 400)
    verdicts = method_verdicts(bootstrap, bootstrap.compare_all())
    assert [(v.question, v.answer) for v in verdicts] == [
        ("Is it less than 1 point below full?", "no"),
        ("Is it less than 20 points below full?", "yes"),
    ]


def test_questions_are_answered_by_their_rules(tmp_path: Path) -> None:
    plan = planned(arms=ARMS)
    table = made_up(tmp_path, plan, correct=CORRECT, confidence={"good": 0.8})
    bootstrap = Bootstrap(Results(plan, table), 400)
    verdicts = method_verdicts(bootstrap, bootstrap.compare_all())
    assert {v.question: v.answer for v in verdicts} == {
        "Is it at least 2 points above the stronger baseline, probe?": "yes",
        "Does it matter which weights are trained: is it above random, 0.01 %?": "yes",
        "Is it above gradient, 0.01 %?": "not shown",
        "Is it less than 1 point below full?": "no",
        "Is it less than 1 point below LoRA?": "not shown",
        "Is its calibration error less than 1 point above that of probe?": "yes",
    }


def test_without_questions_the_method_is_compared_with_every_arm(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(questions=[]))
    assert "## Questions" not in text
    summary = section(text, "Summary")
    assert "Of the 3 arms" in summary
    assert "- **Identical** to same, 0.01 %: the same predictions." in summary


def test_a_question_never_compares_the_method_with_itself(tmp_path: Path) -> None:
    plan = planned(arms=ARMS, method="full")
    results = Results(plan, made_up(tmp_path, plan, correct=CORRECT))
    bootstrap = Bootstrap(results, 100)
    questions = [verdict.question for verdict in method_verdicts(bootstrap, bootstrap.compare_all())]
    assert "Is it less than 1 point below LoRA?" in questions
    assert not any("below full" in question for question in questions)


def test_the_budget_section_compares_at_each_budget(tmp_path: Path) -> None:
    """At 0.1 % the method is 10 points above random weights, at 0.01 % equal; full fine-tuning is above both."""
    budgets = {"kind": "sparse", "budgets": [1e-4, 1e-3]}
    plan = planned(arms={"good": budgets, "random": budgets | {"score": "random"}, "full": {"kind": "full"}})
    correct = {
        "good": lambda cell: first(0.7 if cell.budget == 1e-3 else 0.6)(cell),
        "random": first(0.6),
        "full": first(0.9),
    }
    part = section(report_on(tmp_path / "a", plan, correct=correct), "What more trained weights bring")
    assert "| score | 0.01 % (100) | 0.1 % (1,000) |" in part
    assert "| good | 60.2 | 70.2 |" in part
    row = next(line for line in part.splitlines() if line.startswith("| random | the same"))
    assert "| **+10.0 [" in row
    assert part.count("| full | **-30.0 [") == 1
    assert "**-20.0 [" in part
    assert list(tmp_path.glob("a/figures/budgets.*"))
    incomplete = report_on(tmp_path / "b", plan, correct=correct, without=[("good", "a"), "random"])
    assert "70.2 on 2 of 3 |" in incomplete
    assert "What more trained weights bring" not in report_on(tmp_path / "c", planned())


def test_the_methods_line_against_the_budget_has_intervals(tmp_path: Path) -> None:
    budgets = {"kind": "sparse", "budgets": [1e-4, 1e-3]}
    plan = planned(arms={"good": budgets, "random": budgets | {"score": "random"}, "full": {"kind": "full"}})
    correct = {"good": first(0.7), "random": first(0.6), "full": first(0.9)}
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, correct=correct)), 200)
    good, full = (next(e for e in bootstrap.results.entries if e.arm == arm) for arm in ("good", "full"))
    drawn = figures.against_budget(bootstrap, "balanced_accuracy", good)
    assert drawn is not None
    lines = {trace.name: trace for trace in drawn.data}
    low, high = bootstrap.estimate(good, "balanced_accuracy", plan.datasets).interval()
    assert low < 0.702 < high
    assert lines["good"].y[0] + lines["good"].error_y.array[0] == pytest.approx(100 * high)
    assert lines["good"].y[0] - lines["good"].error_y.arrayminus[0] == pytest.approx(100 * low)
    assert lines["random"].error_y.array is None
    without = figures.against_budget(bootstrap, "balanced_accuracy", full)
    assert without is not None
    assert len(without.data) > 1
    assert all(trace.error_y.array is None for trace in without.data)


def test_an_unfinished_table_states_what_is_missing_and_pending(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(arms=ARMS), correct=CORRECT, without=("full", "kept", ("random", "b")))
    assert "**This is not a result yet**: 28 of 48 cells are finished." in text
    missing = section(text, "What is missing")
    assert "20 of 48 cells are not finished." in missing
    assert "| full | 2 of 2 | 2 of 2 | 2 of 2 |" in missing
    assert "| random, 0.01 % |  | 2 of 2 |  |" in missing
    assert "- Is it less than 1 point below full?" in missing
    assert "- Does it matter which weights are trained: is it above random, 0.01 %?" in missing
    assert "- Do the 0.1 % of weights that full fine-tuning changes most retain 90 % of its gain?" in missing
    assert "stronger baseline" not in missing
    assert "on 2 of 3 datasets | (2) |" in text
    assert "| Is it less than 1 point below full? | **not yet** | no cell in common yet |" in text


def test_before_the_method_has_a_cell_there_is_no_answer(tmp_path: Path) -> None:
    plan = planned(arms=ARMS)
    text = report_on(tmp_path, plan, correct=CORRECT, without=set(ARMS) - {"probe"})
    assert "There is no answer yet" in text
    with pytest.raises(RunError, match="no finished cell of this plan"):
        compare.write_report(plan, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_failed_training_is_not_a_missing_cell(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(arms=ARMS), correct=CORRECT, failed=(("full", "c"),))
    assert "## What is missing" not in text
    assert "Every training diverged: full on c." in text
    assert "on 2 of 3 datasets" in text


@pytest.mark.parametrize(("arm", "than", "answer"), [("good", "bad", "yes"), ("bad", "good", "no")])
def test_of_log_loss_less_is_better(tmp_path: Path, arm: str, than: str, answer: str) -> None:
    """More cases right at the same confidence: a lower log loss, by far more than a point."""
    questions = [
        {"kind": "better", "arm": arm, "than": than, "by": 0.01},
        {"kind": "better", "arm": arm, "than": than},
        {"kind": "not_worse", "arm": arm, "than": than},
    ]
    plan = planned(metric="log_loss", questions=questions, method="good")
    text = section(report_on(tmp_path, plan), "Questions about good, 0.01 %")
    answers = [line for line in text.splitlines() if "log loss" in line]
    assert len(answers) == 3
    assert all(f"| **{answer}** |" in line for line in answers)
    assert "at least 1 point below that of" in answers[0]

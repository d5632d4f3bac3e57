"""Primary questions: their p values are adjusted for all of them, and the page has their answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare.analysis.hypotheses import Verdict, method_verdicts
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.report.page import page
from shpeft.errors import ConfigError, RunError
from tests.helpers.comparison_tables import ARMS, CORRECT, made_up, plan_of, planned


def answered(folder: Path, questions: list[dict[str, Any]], **table: Any) -> tuple[Bootstrap, list[Verdict]]:
    plan = planned(arms=ARMS, questions=questions)
    bootstrap = Bootstrap(Results(plan, made_up(folder, plan, correct=CORRECT, **table)), 400)
    return bootstrap, method_verdicts(bootstrap, [])


def margin_of_p(folder: Path, p: float) -> float:
    """The margin at which the test that the method is not worse than LoRA has this p."""
    bootstrap, _ = answered(folder, [])
    comparison = bootstrap.compare(Entry("good", 1e-4), Entry("LoRA", None), "balanced_accuracy")
    assert comparison is not None
    return float(-np.quantile(comparison.mean.replicates, p))


def test_a_yes_that_does_not_survive_the_adjustment_is_withdrawn(tmp_path: Path) -> None:
    close = {"kind": "not_worse", "than": "LoRA", "by": margin_of_p(tmp_path / "margin", 0.03)}
    clear, lost = {"kind": "better", "than": "random"}, {"kind": "not_worse", "than": "full"}
    _, alone = answered(tmp_path / "a", [close])
    assert (alone[0].answer, alone[0].p) == ("yes", None)
    _, first = answered(tmp_path / "b", [close | {"primary": True}, lost | {"primary": True}, clear])
    assert first[0].p == pytest.approx(0.03, abs=0.005)
    assert [v.answer for v in first] == ["not shown", "no", "yes"]  # 2 × 0.03 is no 5 %
    assert "adjusted p = 0.06" in first[0].evidence
    assert "Holm" in first[0].rule
    assert first[2].p is None
    assert "Holm" not in first[2].rule
    _, second = answered(tmp_path / "c", [close | {"primary": True}, clear | {"primary": True}])
    assert [v.answer for v in second] == ["yes", "yes"]  # the larger of two is compared with 5 % itself


def test_a_difference_to_the_wrong_side_has_no_small_p(tmp_path: Path) -> None:
    _, (worse,) = answered(tmp_path, [{"kind": "better", "than": "full", "primary": True}])
    assert (worse.answer, worse.p) == ("no", 1.0)


def test_a_pending_question_counts_in_the_adjustment(tmp_path: Path) -> None:
    close = {"kind": "not_worse", "than": "LoRA", "by": margin_of_p(tmp_path / "margin", 0.03), "primary": True}
    other = {"kind": "better", "than": "random", "primary": True}
    _, verdicts = answered(tmp_path / "a", [close, other], without=["random"])
    assert [v.answer for v in verdicts] == ["not shown", "not yet"]


def test_the_page_has_the_decision(tmp_path: Path) -> None:
    questions: list[dict[str, Any]] = [
        {"kind": "better", "than": "random", "primary": True},
        {"kind": "not_worse", "than": "full"},
    ]
    bootstrap, verdicts = answered(tmp_path, questions)
    text = page(bootstrap, verdicts=verdicts)
    decision = text.split("## Decision")[1].split("\n## ")[0]
    assert "| Is it above random, 0.01 %? | **yes** |" in decision
    assert "full" not in decision.split("Rules;")[0]
    assert "## Decision" not in page(bootstrap)


def test_parts_of_a_report_have_no_common_adjustment(tmp_path: Path) -> None:
    report = {"method": "product", "questions": [{"kind": "better", "than": "probe", "primary": True}]}
    arms = {"probe": {"kind": "probe"}, "product": {"kind": "sparse", "images": 8}}
    plan = plan_of(arms, seeds=[0], images_per_class={"train": [4, 6], "val": 4}, report=report)
    compare.run(plan, tmp_path, only=["fundus/probe"])
    with pytest.raises(RunError, match="its report has 2 parts"):
        compare.write_report(plan, tmp_path, resamples=50)


def test_what_is_no_comparison_of_arms_cannot_be_primary() -> None:
    with pytest.raises(ConfigError, match="kind retains is primary, which is for better and not_worse"):
        planned(arms=ARMS, questions=[{"kind": "retains", "primary": True}])

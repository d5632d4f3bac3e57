"""The report says what the table holds: in numbers that can be computed by hand, and in words that follow from them."""

import csv
import json
import sys

import numpy as np
import pytest

from shpeft import compare
from shpeft.compare import Plan, answer, claims, pictures
from shpeft.compare.duels import Bootstrap
from shpeft.compare.overlaps import Pair
from shpeft.compare.results import Entry, Results
from shpeft.errors import RunError

from .comparisons import USUAL, first, made_up, planned

ARMS = {
    "probe": {"kind": "probe"},
    "good": {"kind": "sparse"},
    "random": {"kind": "sparse", "score": "random"},
    "gradient": {"kind": "sparse", "score": "gradient"},
    "full": {"kind": "full"},
    "LoRA": {"kind": "lora"},
    "kept": {"kind": "revert", "of": "full", "budgets": [1e-3, 1e-1]},
}


def reverted(cell) -> np.ndarray:
    """10 of full fine-tuning's 30 points are kept by 0.1 %, 29 by 10 %."""
    return first(0.7 if cell.budget < 0.01 else 0.89)(cell)


RIGHTS = {
    **{"probe": first(0.6), "good": first(0.8), "random": first(0.6), "gradient": first(0.8), "full": first(0.9)},
    **{"LoRA": lambda cell: np.arange(200) >= 39 + 2 * cell.seed, "kept": reverted},
}

SETTING = """\
backbone: {name: test_vit, weights: random, image_size: 32}
datasets:
  fundus: {source: "phantom:fundus?n=36&size=32"}
  ultrasound: {source: "phantom:ultrasound?n=36&size=32"}
images_per_class: {train: 6, val: 4}
seeds: [0, 1]
budgets: [40, 0.01]
tune: first
training: {epochs: 1, batch_size: 8}
grids: {sparse: [1.0e-3, 1.0e-2], full: [1.0e-4, 1.0e-3]}
arms:
  probe: {kind: probe}
  product: {kind: sparse, images: 8}
  gradient: {kind: sparse, score: gradient, images: 8}
report: {title: A test, margin: 0.02, pairs: {fundus: [healthy, exudates]}}
overlaps: {arms: [gradient, product], budgets: [40]}
"""


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "few.yaml").write_text(SETTING)
    return tmp_path / "few.yaml"


@pytest.fixture(autouse=True)
def pages(monkeypatch):
    """No browser draws figures, unless a test asks for it."""
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)


def said(tmp_path, plan: Plan, **made) -> str:
    """The report on a made-up table."""
    compare.write_report(plan, made_up(tmp_path, plan, **made).folder, resamples=400)
    return (tmp_path / "RESULTS.md").read_text()


def test_the_duels_are_those_of_the_table(tmp_path):
    plan = planned()
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan)), 400)
    duels = {duel.other.arm: duel for duel in bootstrap.duels()}
    assert duels["same"].mean.verdict == "same"
    assert duels["same"].identical
    assert duels["same"].tost is None
    assert duels["same"].wilcoxon == duels["same"].holm == 1
    assert duels["bad"].mean.value == pytest.approx(0.2)
    assert duels["bad"].mean.verdict == "better"
    assert duels["bad"].wilcoxon == 0.25  # three datasets cannot say more
    assert duels["bad"].wilcoxon_holm == 0.75
    assert duels["bad"].counts == {"better": 3, "tie": 0, "same": 0, "worse": 0}
    assert duels["bad"].pooled.false_claim < 1e-9
    assert (duels["bad"].pooled.cases, duels["bad"].pooled.only_method) == (600, 120)
    assert duels["bad"].odds["a"].disagree == pytest.approx(0.2)
    results = bootstrap.results
    assert results.mean(Entry("good", 1e-4), "accuracy") == pytest.approx(0.8025)
    found = results.ranking("accuracy")
    assert {entry.arm for entry in found.entries[:2]} == {"good", "same"}
    assert found.ranks == (1.5, 1.5, 3.5, 3.5)


def test_every_arm_meets_the_same_draws(tmp_path):
    """good − bad and bad − probe add up to good − probe, replicate by replicate; masks and budgets change nothing."""
    plan = planned()
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, rights=USUAL | {"bad": first(0.7)})), 50)
    good, bad, probe = Entry("good", 1e-4), Entry("bad", 1e-4), Entry("probe", None)
    one, two, three = (
        bootstrap.difference(x, y, "b", "accuracy").replicates for x, y in ((good, bad), (bad, probe), (good, probe))
    )
    np.testing.assert_allclose(one + two, three, atol=1e-12)


def test_it_says_won_the_same_and_what_did_not_work(tmp_path):
    text = said(tmp_path, planned(tried=["Larger steps diverged."]))
    answered = text.split("## The answer")[1].split("##")[0]
    assert "finds 80.2 % of the cases of a class" in answered
    assert "the frozen model (probe) finds 60.2" in answered
    assert "wins against 1, loses to none, ties with none." in answered
    assert "- **Won** against the frozen model (probe): +20.0" in answered
    assert "won on 3 of 3 sets" in answered
    assert "no result yet" not in answered
    assert "| same, 0.01 % | the same predictions | the same | 1 | cannot be tested |" in text
    assert "equivalent" not in text.split("Learning rates")[0].split("against each")[1].split("The method minus")[0]
    assert "Not above the better floor, probe (60.2): bad, 0.01 %." in text
    assert "18 single trainings diverged." in text
    assert "- Larger steps diverged." in text.split("## What did not work")[1].split("##")[0]
    assert "cells by processor: 12 Make 0, 12 Make 1." in text
    assert "80.2 ± 0.4" in text
    assert "24 cells took **0.4 hours**" in text
    assert "## What is missing" not in text
    assert "| bad, 0.01 % | 0.001, 0.01 | 0.01 (edge) |" in text
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == 24
    assert json.loads(rows[-1]["trials"]) == {"0.001": 0.7, "0.01": None}


def test_behind_and_a_tie_are_said_as_plainly(tmp_path):
    plan = planned(arms=ARMS, method="good")
    text = said(tmp_path, plan, rights=RIGHTS | {"random": lambda cell: np.arange(200) >= 39 + 2 * cell.seed})
    answered = text.split("## The answer")[1].split("##")[0]
    assert "- **Lost** to full fine-tuning (full): -10.0" in answered
    assert "- **A tie** with weights chosen at random (random, 0.01 %)" in answered
    assert "allowed for (Holm), what remains is that against probe, full." in answered


def test_a_control_is_held_against_the_arm_whose_layers_it_keeps(tmp_path):
    """Random weights in another arm's layers say nothing of the method's choice within its own."""
    control = {"kind": "sparse", "score": "random", "like": "other"}
    arms = {**ARMS, "other": {"kind": "sparse", "lam": 0.1}, "like": control}
    plan = planned(arms=arms)
    rights = RIGHTS | {"other": first(0.7), "like": first(0.6)}
    bootstrap = Bootstrap(results := Results(plan, made_up(tmp_path, plan, rights=rights)), 400)
    asked = [f for f in claims.goals(bootstrap, bootstrap.duels()) if "of each layer" in f.question]
    assert [f.question for f in asked] == [
        "Does it matter which weights of each layer: is other, 0.01 % above like, 0.01 %?"
    ]
    assert asked[0].number.startswith("+10.0 [")
    assert Entry("like", 1e-4) not in answer.rivals(results)
    own = planned(arms={**arms, "like": control | {"like": "good"}})
    bootstrap = Bootstrap(results := Results(own, made_up(tmp_path / "own", own, rights=rights)), 400)
    asked = [f for f in claims.goals(bootstrap, bootstrap.duels()) if "of each layer" in f.question]
    assert [f.question[-25:] for f in asked] == ["is it above like, 0.01 %?"]
    assert asked[0].number.startswith("+20.0 [")
    assert Entry("like", 1e-4) in answer.rivals(results)


def test_a_control_of_the_gradients_is_held_against_the_arm_that_has_its_own(tmp_path):
    gradient = {"kind": "sparse", "score": "gradient"}
    controls = {
        "shuffled": gradient | {"gradients": "shuffled"},
        "lone": gradient | {"norm": "l2", "gradients": "other"},
    }
    other = {"kind": "sparse", "gradients": "other"}  # of the method
    plan = planned(arms={**ARMS, "gradient": gradient, **controls, "other": other})
    rights = RIGHTS | {"gradient": first(0.7), "shuffled": first(0.6), "lone": first(0.6), "other": first(0.6)}
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, rights=rights)), 400)
    asked = {
        f.question: f.number[:7] for f in claims.goals(bootstrap, bootstrap.duels()) if "Does it matter" in f.question
    }
    assert asked == {
        "Does it matter which weights: is it above random, 0.01 %?": "+20.0 [",
        "Does it matter which image has which label: is gradient, 0.01 % above shuffled, 0.01 %?": "+10.0 [",
        "Does it matter which task the gradients are of: is it above other, 0.01 %?": "+20.0 [",
    }


def test_questions_are_answered_by_their_rules(tmp_path):
    plan = planned(arms=ARMS)
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, rights=RIGHTS, confidence={"good": 0.8})), 400)
    found = {f.question: f.answer for f in claims.goals(bootstrap, bootstrap.duels())}
    assert found == {
        "Is it at least 2 points above the better floor, probe?": "yes",
        "Does it matter which weights: is it above random, 0.01 %?": "yes",
        "Is it above one half alone, gradient, 0.01 %?": "not shown",
        "Is it less than 1 point below full?": "no",
        "Is it less than 1 point below LoRA?": "not shown",
        "Is its calibration error less than 1 point above that of probe?": "yes",
    }


def test_a_rival_that_is_the_method_is_not_held_against_itself(tmp_path):
    plan = planned(arms=ARMS, method="full")
    results = Results(plan, made_up(tmp_path, plan, rights=RIGHTS))
    bootstrap = Bootstrap(results, 100)
    questions = [finding.question for finding in claims.goals(bootstrap, bootstrap.duels())]
    assert "Is it less than 1 point below LoRA?" in questions
    assert not any("below full" in question for question in questions)
    assert "What is missing" not in said(tmp_path / "again", plan, rights=RIGHTS)


def test_what_more_weights_buy_is_told_at_each_budget(tmp_path):
    """At 0.1 % the method is 10 points above random weights, at 0.01 % level; full fine-tuning is 20 ahead of both."""
    budgets = {"kind": "sparse", "budgets": [1e-4, 1e-3]}
    plan = planned(arms={"good": budgets, "random": budgets | {"score": "random"}, "full": {"kind": "full"}})
    rights = {
        "good": lambda cell: first(0.7 if cell.budget == 1e-3 else 0.6)(cell),
        "random": first(0.6),
        "full": first(0.9),
    }
    text = said(tmp_path, plan, rights=rights)
    section = text.partition("## What more trained weights buy")[2].partition("\n## ")[0]
    assert "| score | 0.01 % (100) | 0.1 % (1,000) |" in section
    assert "| good | 60.2 | 70.2 |" in section
    row = next(line for line in section.splitlines() if line.startswith("| random | the same"))
    assert "| **+10.0 [" in row
    assert section.count("| full | **-30.0 [") == 1
    assert "**-20.0 [" in section
    assert list(tmp_path.glob("figures/budgets.*"))
    without = said(tmp_path / "b", plan, rights=rights, without=[("good", "a"), "random"])
    assert "70.2 on 2 of 3 |" in without
    assert "What more trained weights buy\n" not in said(tmp_path / "c", planned())


def test_the_methods_line_against_the_budget_has_its_intervals(tmp_path):
    budgets = {"kind": "sparse", "budgets": [1e-4, 1e-3]}
    plan = planned(arms={"good": budgets, "random": budgets | {"score": "random"}, "full": {"kind": "full"}})
    rights = {"good": first(0.7), "random": first(0.6), "full": first(0.9)}
    bootstrap = Bootstrap(Results(plan, made_up(tmp_path, plan, rights=rights)), 200)
    good, full = (next(e for e in bootstrap.results.entries if e.arm == arm) for arm in ("good", "full"))
    drawn = pictures.against_budget(bootstrap, "balanced_accuracy", good)
    lines = {trace.name: trace for trace in drawn.data}
    low, high = bootstrap.estimate(good, "balanced_accuracy", plan.datasets).interval()
    assert low < 0.702 < high
    assert lines["good"].y[0] + lines["good"].error_y.array[0] == pytest.approx(100 * high)
    assert lines["good"].y[0] - lines["good"].error_y.arrayminus[0] == pytest.approx(100 * low)
    assert lines["random"].error_y.array is None
    without = pictures.against_budget(bootstrap, "balanced_accuracy", full)
    assert all(trace.error_y.array is None for trace in without.data)


def test_tasks_that_share_and_need_their_own():
    def pair(kind, shared, on):
        return Pair(kind, "gradient", on, 1e-4, 100, shared, 0.01, 1e-30, {"fc1": (shared, 2.0)})

    pairs = [pair("tasks", n, f"a, {n}") for n in (8, 15)] + [pair("seeds", n, f"a, {n}") for n in (41, 80)]
    found = [f.answer for f in claims.hybridity(pairs, None)]
    assert found == ["yes", "yes"]
    alike = [pair("tasks", 50, "a, b"), pair("seeds", 40, "a"), pair("seeds", 60, "b")]
    assert claims.hybridity(alike, None)[1].answer == "no"
    chance = [Pair("tasks", "gradient", "a, b", 1e-4, 100, 1, 1.0, 0.6, {"fc1": (1, 2.0)})]
    assert claims.hybridity(chance, None)[0].answer == "no"


def test_an_unfinished_table_says_what_is_missing_and_what_waits(tmp_path):
    text = said(tmp_path, planned(arms=ARMS), rights=RIGHTS, without=("full", "kept", ("random", "b")))
    assert "**This is no result yet**: 28 of 48 cells are done." in text
    missing = text.split("## What is missing")[1].split("\n## ")[0]
    assert "20 of 48 cells are not done." in missing
    assert "| full | 2 of 2 | 2 of 2 | 2 of 2 |" in missing
    assert "| random, 0.01 % |  | 2 of 2 |  |" in missing
    assert "- Is it less than 1 point below full?" in missing
    assert "- Does it matter which weights: is it above random, 0.01 %?" in missing
    assert "- Do the 0.1 % that full fine-tuning changes most keep 90 % of its gain?" in missing
    assert "better floor" not in missing
    assert "on 2 of 3 datasets | (2) |" in text
    assert "| Is it less than 1 point below full? | **not yet** | no cell in common yet |" in text


def test_before_the_method_has_begun_there_is_no_answer(tmp_path):
    plan = planned(arms=ARMS)
    assert "There is no answer yet" in said(tmp_path, plan, rights=RIGHTS, without=set(ARMS) - {"probe"})
    with pytest.raises(RunError, match="no cell of this plan"):
        compare.write_report(plan, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_training_that_failed_is_no_missing_cell(tmp_path):
    text = said(tmp_path, planned(arms=ARMS), rights=RIGHTS, failed=(("full", "c"),))
    assert "## What is missing" not in text
    assert "Every training diverged: full on c." in text
    assert "on 2 of 3 datasets" in text

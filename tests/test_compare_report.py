"""The report says what the table holds: in numbers that can be computed by hand, and in words that follow from them."""

import csv
import json
import re
import sys

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from shpeft import compare, figures
from shpeft.backbones import WeightInfo
from shpeft.compare import Plan, answer, claims
from shpeft.compare.duels import Bootstrap, between
from shpeft.compare.overlaps import Pair, Precision, auroc, foretell
from shpeft.compare.results import Entry, Results
from shpeft.compare.table import at_temperature
from shpeft.compare.writing import read_overlaps
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import Predictions, evaluate
from shpeft.importance import Scores

from .commands import shpeft
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
    text = said(tmp_path, planned())
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


def test_what_the_largest_changes_keep(tmp_path):
    """Full gains 30 points over the probe: 0.1 % keep 10 of them, 10 % keep 29."""
    plan = planned(arms=ARMS)
    results = Results(plan, made_up(tmp_path, plan, rights=RIGHTS))
    found = claims.kept(Bootstrap(results, 400))
    assert [one.budget for one in found] == [1e-3, 1e-1]
    assert [one.share.value for one in found] == pytest.approx([1 / 3, 29 / 30])
    assert [one.loss.value for one in found] == pytest.approx([-0.2, -0.01])
    assert found[0].metric.value == pytest.approx(0.7025)
    answers = claims.sparsity(results, found)
    assert [f.answer for f in answers] == ["no", "yes"]
    assert answers[0].number.startswith("33 % [")
    text = said(tmp_path / "again", plan, rights=RIGHTS)
    assert "## Sparsity: do a few weights decide the result?" in text
    assert "| 0.1 % | 70.2 [" in text


def test_without_a_gain_there_is_nothing_to_keep(tmp_path):
    plan = planned(arms=ARMS)
    results = Results(plan, made_up(tmp_path, plan, rights=RIGHTS | {"full": first(0.6)}))
    found = claims.kept(Bootstrap(results, 100))
    assert [one.share for one in found] == [None, None]
    assert {f.answer for f in claims.sparsity(results, found)} == {"not shown"}


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


def test_ranks_are_over_the_largest_block_that_is_filled(tmp_path):
    plan = planned()
    rest = [(arm, d) for arm in ("same", "bad") for d in ("b", "c")]
    results = Results(plan, made_up(tmp_path, plan, without=rest))
    found = results.ranking("accuracy")
    assert {e.arm for e in found.entries} == {"probe", "good"}  # 2 arms × 3 sets, more than 4 × 1
    assert found.datasets == ("a", "b", "c")
    assert found.p is None


def test_pairs_of_classes_are_told_apart_alone(tmp_path):
    text = said(tmp_path, planned(pairs={"a": ["no", "yes"]}))
    part = text.split("no against yes alone")[1].split("###")[0]
    assert "| good, 0.01 % | 80.2 | +20.0 [" in part  # as sure of every answer: AUROC is the balanced accuracy
    with pytest.raises(RunError, match="'maybe'; there are no, yes"):
        said(tmp_path / "b", planned(pairs={"a": ["no", "maybe"]}))


def test_two_classes_alone_are_scikit_learn_s(tmp_path):
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet(np.ones(3), 90), rng.integers(0, 3, 90)
    ids = tuple(map(str, range(90)))
    alone, rows = between(Predictions(ids, tuple(labels.tolist()), ids, ("a", "b", "c"), p), ("c", "a"))
    truth = labels[rows] == 0
    assert alone.labels == tuple(truth.astype(int).tolist())
    expected = roc_auc_score(truth, p[rows, 0] / (p[rows, 0] + p[rows, 2]))
    assert evaluate(alone, resamples=0).macro_auroc.value == pytest.approx(expected)


def test_calibration_has_intervals_and_less_is_better(tmp_path):
    text = said(tmp_path, planned(), confidence={"good": 0.8, "same": 0.8})
    part = text.split("## Calibration")[1].split("##")[0]
    assert re.search(r"\| good, 0\.01 % \| 0\.2 \| 2\.[0-4] \| -29\.5 \[", part)
    assert part.split("| good")[1].split("\n")[0].endswith("| won |")
    assert "no cell here says which temperature" in part


def test_calibration_is_told_before_and_after_the_temperature(tmp_path):
    """Of 80.2 % that are right, all 90 % sure: at the temperature at which 0.9 becomes 0.802 nothing is left."""
    plan, fits = planned(), np.log(9) / np.log(0.802 / 0.198)
    table = made_up(tmp_path, plan)
    for record in table.cells().values():
        if record["arm"] != "bad":
            calibrated = evaluate(at_temperature(table.predictions(record["key"]), fits), resamples=0)
            table.add_cell(record | {"temperature": fits, "ece_calibrated": calibrated.ece.value}, None)
    compare.write_report(plan, tmp_path, resamples=400)
    text = (tmp_path / "RESULTS.md").read_text()
    row = next(line for line in text.split("## Calibration")[1].splitlines() if line.startswith("| good"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1] == "9.8"
    assert cells[5] == f"{fits:.2f}"
    assert float(cells[6]) <= 0.3
    assert re.match(r"-19\.[78] \[", cells[8])
    assert cells[9] == "won"
    assert "| bad, 0.01 % | 29.7 " in text
    assert "18 of 24 cells say theirs" in text
    assert "each at the temperature that its validation images fit? | **yes** |" in text


def test_sets_that_tell_nothing_apart_and_edges_are_named(tmp_path):
    text = said(tmp_path, planned(), rights={name: first(0.5) for name in USUAL})
    assert "On a 0 of 4 arms are above guessing (50.0; 95 % interval): this set hardly tells arms apart." in text
    assert "bad, 0.01 % (high on 3)" in text
    assert "(`shpeft compare memory`)" in text


def test_auroc_by_ranks_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=300), 1)  # ties
    truth = rng.random(300) < 0.2
    assert auroc(scores[truth], np.sort(scores)) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_magnitude_foretells_itself_and_not_its_opposite():
    infos = tuple(
        WeightInfo(f"blocks.{b}.fc.weight", (20, 10), 200, b + 1, f"blocks.{b}", "fc.weight", True) for b in range(2)
    )
    values = {i.name: torch.rand(i.shape, generator=torch.Generator().manual_seed(i.depth)) for i in infos}
    w = Scores("magnitude", values, infos, 400)
    same = foretell(w, w, [20])
    assert same.correlation == pytest.approx(1)
    assert same.auroc == {"20": 1.0}
    assert same.precision == {"20": Precision(20, 20, 1.0)}
    assert same.by_layer == dict.fromkeys(values, pytest.approx(1))
    counts = {name: (of.hits, of.chosen) for name, of in same.precision_by_layer["20"].items()}
    assert all(hits == chosen for hits, chosen in counts.values())
    assert sum(hits for hits, _ in counts.values()) == 20
    assert claims.hybridity([], same)[0].answer == "yes"
    opposite = foretell(w, Scores("c", {n: -v for n, v in values.items()}, infos, 400), [20])
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.auroc == {"20": 0.0}
    assert opposite.precision["20"].hits == 0
    assert claims.hybridity([], opposite)[0].answer == "no"
    other = Scores("c", {n: v.sin() + v % 0.1 for n, v in values.items()}, infos, 400)
    flat = [torch.cat([v.reshape(-1) for v in s.values()]) for s in (values, other.values)]
    found = foretell(w, other, [20])
    assert found.correlation == pytest.approx(spearmanr(flat[0], flat[1]).statistic)
    best = [set(v.topk(20).indices.tolist()) for v in flat]
    assert found.precision["20"].hits == len(best[0] & best[1])


def test_the_command_line_from_nothing_to_a_report(setting):
    assert "8  " in shpeft("compare", setting, "--dry-run").output
    filled = shpeft("compare", setting)
    assert "[1/20] fundus, seed 0, probe: balanced accuracy" in filled.stderr
    assert "20 cells in" in filled.stdout
    assert "[" not in shpeft("compare", "run", setting).stderr
    shpeft("compare", "overlaps", setting)
    shpeft("compare", "report", setting, "--resamples", 200)
    folder = setting.with_suffix("")
    text = (folder / "RESULTS.md").read_text()
    for part in (
        "# A test",
        "## The answer",
        "| product, 40 weights |",
        "scores: gradient and product, 40 weights",
        "Does each task need weights of its own (gradient, 40 weights)?",
        "Learning rates",
    ):
        assert part in text
    assert list(folder.glob("figures/overlaps.*"))
    assert Results.of(folder).plan == Plan.from_yaml(setting)
    assert str(folder) not in text
    found = json.loads((folder / "overlaps.json").read_text())
    kinds = {pair["kind"]: pair for pair in found["pairs"]}
    assert set(kinds) == {"tasks", "seeds", "scores"}
    for pair in found["pairs"]:
        assert pair["k"] == 40
        assert pair["intersection"] == sum(both for both, _ in pair["layers"].values())
    assert -1 <= found["foretold"]["correlation"] <= 1
    assert read_overlaps(folder)[1].precision["40"].chosen == 40
    (folder / "overlaps.json").write_text("{}")
    assert "Make it anew with `shpeft compare overlaps`" in shpeft("compare", "report", setting, code=2).output
    assert sorted(path.stem for path in (folder / "figures").glob("*[!j].[hs]*"))


def test_a_plan_that_cannot_be_read_is_a_sentence(tmp_path):
    assert "cannot be read" in shpeft("compare", tmp_path / "missing.yaml", code=2).output
    plan = planned()
    with pytest.raises(ConfigError, match="no arms to compare"):
        compare.write_overlaps(plan, tmp_path)


def test_figures_hold_the_numbers():
    drawn = figures.differences(["a", "b", "c"], [0.02, -0.01, 0.0], [(0.01, 0.03), (-0.02, -0.005), (-0.01, 0.02)])
    points = drawn.data[0]
    assert list(points.x) == pytest.approx([2, -1, 0])
    assert list(points.error_x.array) == pytest.approx([1, 0.5, 2])
    assert len(set(points.marker.color)) == 3
    assert points.marker.symbol == ("triangle-right", "triangle-left", "circle-open")  # not by colour alone
    less = figures.differences(["a"], [-0.1], [(-0.2, -0.05)], larger_is_better=False)
    assert less.data[0].marker.color[0] == points.marker.color[0]
    ranks = figures.mean_ranks(["a", "b"], [1.5, 2.5], "a", 0.6)
    assert list(ranks.data[0].x) == [1.5, 2.5]
    assert [ranks.layout.shapes[0].x0, ranks.layout.shapes[0].x1] == pytest.approx([0.9, 2.1])
    between = {"product": [(0.6, 0.75), (0.7, 0.9)]}
    lines = figures.against_budget({"product": ([1e-4, 1e-2], [0.7, 0.8])}, {"full": 0.9}, intervals=between)
    assert list(lines.data[0].x) == pytest.approx([0.01, 1])
    assert list(lines.data[0].error_y.array) == pytest.approx([5, 10])
    assert list(figures.against_weights(["probe", "full"], [0, 1], [0.5, 0.9]).data[0].x) == [10, 100]
    shared = figures.shared_against_chance(["a"], [0.1], [0.001])
    assert list(shared.data[1].x) == pytest.approx([0.1])
    for nothing in (figures.differences([], [], []), figures.mean_ranks([], []), figures.against_budget({})):
        assert nothing.layout.annotations


@pytest.mark.parametrize("browser", [True, False])
def test_figures_become_files(tmp_path, monkeypatch, browser):
    if browser:
        monkeypatch.undo()
    paths = figures.save({"ranks": figures.mean_ranks(["an arm"], [1.0])}, tmp_path / "figures")
    assert list(paths) == ["ranks"]
    text = paths["ranks"].read_text()
    assert "an arm" in text
    assert "cdn." not in text
    if not browser:
        assert paths["ranks"].suffix == ".html"
        assert (tmp_path / "figures" / "plotly.min.js").exists()
    elif paths["ranks"].suffix == ".svg":
        assert text.startswith("<svg")

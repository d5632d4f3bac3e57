"""The report of a comparison: sparsity, calibration, pairs of classes, the command line and the figures."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import json
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from shpeft import compare, figures
from shpeft.backbones import WeightInfo
from shpeft.compare import Plan, claims, pictures
from shpeft.compare.duels import Bootstrap, between
from shpeft.compare.overlaps import Precision, auroc, foretell
from shpeft.compare.results import Results
from shpeft.compare.table import at_temperature
from shpeft.compare.writing import read_overlaps
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import Predictions, evaluate
from shpeft.importance import Scores
from tests.test_compare_report import ARMS, RIGHTS, pages, said, setting

from .commands import shpeft
from .comparisons import USUAL, first, made_up, planned


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
    assert re.search(r"^gradient, 1 % +4 +6 +0.001, 0.01$", shpeft("compare", setting, "--dry-run").output, re.M)
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
    marks = figures.against_weights(["a", "b", "c", "d"], [0, 0.1, 0.1, 1], [0.5, 0.6, 0.4, 0.55], "c").data[0]
    assert list(marks.text) == ["a", "b", "c", ""]  # d trains more than b and is behind it
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
        again = figures.save({"ranks": figures.mean_ranks(["an arm"], [1.0])}, tmp_path / "again")
        assert again["ranks"].read_text() == text


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


def test_the_largest_changes_of_two_trainings_are_told_apart(tmp_path):
    """The same budgets of two ways to fine-tune fully: 33 and 97 % of the one's gain, nothing of the other's."""
    more = {"slow": {"kind": "full", "eps": 0.01}, "kept of slow": ARMS["kept"] | {"of": "slow"}}
    plan = planned(arms=ARMS | more)
    results = Results(plan, made_up(tmp_path, plan, rights=RIGHTS | {"slow": first(0.8), "kept of slow": first(0.6)}))
    found = claims.kept(Bootstrap(results, 400))
    assert [(one.full.arm, one.budget) for one in found] == [(of, k) for of in ("full", "slow") for k in (1e-3, 1e-1)]
    assert [one.share.value for one in found] == pytest.approx([1 / 3, 29 / 30, 0, 0], abs=1e-9)
    answers = claims.sparsity(results, found)
    assert [f.answer for f in answers] == ["no", "yes", "no", "no"]
    assert answers[2].question.startswith("Do the 0.1 % that full fine-tuning (slow) changes most keep")
    drawn = pictures.sparsity(results, found)
    assert {trace.name for trace in drawn.data} >= {"kept", "kept of slow"}
    text = said(tmp_path / "again", plan, rights=RIGHTS | {"slow": first(0.8), "kept of slow": first(0.6)})
    assert "| slow | 0.1 % | 60.2 [" in text


def test_without_a_gain_there_is_nothing_to_keep(tmp_path):
    plan = planned(arms=ARMS)
    results = Results(plan, made_up(tmp_path, plan, rights=RIGHTS | {"full": first(0.6)}))
    found = claims.kept(Bootstrap(results, 100))
    assert [one.share for one in found] == [None, None]
    assert {f.answer for f in claims.sparsity(results, found)} == {"not shown"}

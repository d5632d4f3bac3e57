"""The report says what the table holds: in numbers that can be computed by hand, and in words that follow from them."""

import csv
import json
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from shpeft import compare, figures
from shpeft.backbones import WeightInfo
from shpeft.compare import Plan, Table
from shpeft.compare.overlaps import auroc, foretell
from shpeft.compare.report import in_short
from shpeft.compare.results import Entry, Results
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import METRICS, Predictions, evaluate
from shpeft.importance import Scores

from .commands import shpeft

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


def planned(names=("a", "b", "c"), **claim) -> Plan:
    arms = {"probe": {"kind": "probe"}, "good": {"kind": "sparse"}, "same": {"kind": "sparse", "lam": 0.1}}
    return Plan.parse(
        {
            "datasets": {name: {"source": f"phantom:{name}"} for name in names},
            "seeds": [0, 1],
            "grids": {"sparse": [1e-3, 1e-2]},
            "arms": {**arms, "bad": {"kind": "sparse", "lam": 0.2}},
            "report": {"method": "good", **claim},
        }
    )


def made_up(folder, plan: Plan, without=()) -> Table:
    """A table whose arms get the first 80, 80, 60 and 60 % of 200 cases right; the probe 60 %."""
    table = Table(folder)
    rights = {"probe": 0.6, "good": 0.8, "same": 0.8, "bad": 0.6}
    for cell in plan.cells():
        if cell.arm in without:
            continue
        labels = np.arange(200) % 2
        right = np.arange(200) < 200 * rights[cell.arm] + cell.seed
        p = np.where(right, 0.9, 0.1)
        probabilities = np.where(np.eye(2)[labels] > 0, p[:, None], 1 - p[:, None])
        ids = tuple(map(str, range(200)))
        predictions = Predictions(ids, tuple(labels.tolist()), ids, ("no", "yes"), probabilities)
        metrics = evaluate(predictions, resamples=0)
        record = {
            **{"key": cell.key, "dataset": cell.dataset, "arm": cell.arm, "kind": plan.arms[cell.arm].kind},
            **{"budget": cell.budget, "seed": cell.seed, "mask": 0, "status": "finished", "seconds": 60.0},
            **{"cases": {"train": 100, "val": 20, "test": 200}, "libraries": {"shpeft": "0", "torch": "2"}},
            **{name: getattr(metrics, name).value for name in METRICS},
            **{"recall": [row["recall"].value for row in metrics.per_class], "trained": 10, "share": 1e-4},
            **{"share_with_head": 2e-4, "bytes": 4096, "seconds_a_step": 0.1},
        }
        if cell.arm != "probe":
            record |= {"lr": 1e-2, "edge": cell.arm == "bad", "tuned": True, "trials": {"0.001": 0.7, "0.01": None}}
        table.add_cell(record, predictions)
    return table


def test_the_duels_are_those_of_the_table(tmp_path):
    plan = planned()
    results = Results(plan, made_up(tmp_path, plan))
    duels = {duel.other.arm: duel for duel in results.duels(400)}
    assert duels["same"].mean.value == 0
    assert duels["same"].mean.verdict == "tie"
    assert duels["same"].tost.equivalent
    assert duels["same"].p == 1
    assert duels["bad"].mean.value == pytest.approx(0.2)
    assert duels["bad"].mean.verdict == "better"
    assert duels["bad"].p == 0.25  # three datasets cannot say more
    assert duels["bad"].holm == 0.75
    assert max(duels["bad"].false_claim.values()) < 1e-9
    assert results.mean(Entry("good", 1e-4), "accuracy") == pytest.approx(0.8025)
    order, ranks = results.ranking("accuracy")
    assert {entry.arm for entry in order[:2]} == {"good", "same"}
    assert ranks.mean == (1.5, 1.5, 3.5, 3.5)


def test_it_says_ahead_tie_and_what_did_not_work(tmp_path):
    plan = planned()
    compare.write_report(plan, made_up(tmp_path, plan).folder, resamples=400)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "- ahead of **probe (the better floor)**: +20.0" in text
    assert "- a tie with **same, 0.01 %**: +0.0 [+0.0, +0.0]; equivalent within 1.0" in text
    assert "Not above the better floor, probe (60.2): bad, 0.01 %." in text
    assert "edge of the grid on some dataset: bad, 0.01 %." in text
    assert "18 single trainings diverged." in text
    assert "Unfinished" not in text
    assert "80.2 ± 0.4" in text
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(rows) == 24
    assert json.loads(rows[-1]["trials"]) == {"0.001": 0.7, "0.01": None}


def test_behind_is_said_as_plainly(tmp_path):
    plan = planned(method="bad")
    table = made_up(tmp_path, plan)
    lines = in_short(Results(plan, table), Results(plan, table).duels(400))
    assert any(line.startswith("behind **good, 0.01 %**: -20.0") for line in lines)


def test_an_unfinished_table_is_reported_as_far_as_it_goes(tmp_path):
    plan = planned()
    table = made_up(tmp_path, plan, without=("same",))
    compare.write_report(plan, table.folder, resamples=200)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "**Unfinished**: 6 of 24 cells are still missing." in text
    assert "same" not in text.split("## Learning rates")[0].split("In short")[1].split("## ")[0]
    with pytest.raises(RunError, match="no cell of this plan"):
        compare.write_report(plan, tmp_path / "empty")


def test_pairs_of_classes_are_told_apart_alone(tmp_path):
    plan = planned(pairs={"a": ["no", "yes"]})
    compare.write_report(plan, made_up(tmp_path, plan).folder, resamples=200)
    assert "no against yes alone" in (tmp_path / "RESULTS.md").read_text()


def test_auroc_by_ranks_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=300), 1)  # ties
    truth = rng.random(300) < 0.2
    assert auroc(scores[truth], np.sort(scores)) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_magnitude_foretells_itself_and_not_its_opposite():
    import torch

    infos = tuple(
        WeightInfo(f"blocks.{b}.fc.weight", (20, 10), 200, b + 1, f"blocks.{b}", "fc.weight", True) for b in range(2)
    )
    values = {i.name: torch.rand(i.shape, generator=torch.Generator().manual_seed(i.depth)) for i in infos}
    w = Scores("magnitude", values, infos, 400)
    same = foretell(w, w, [20])
    assert same.correlation == pytest.approx(1)
    assert same.auroc == {"20": 1.0}
    assert same.by_matrix == {"fc": pytest.approx(1)}
    opposite = foretell(w, Scores("c", {n: -v for n, v in values.items()}, infos, 400), [20])
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.auroc == {"20": 0.0}
    flat = [
        torch.cat([v.reshape(-1) for v in s.values()])
        for s in (values, {n: v.sin() + v % 0.1 for n, v in values.items()})
    ]
    other = Scores("c", {n: v.sin() + v % 0.1 for n, v in values.items()}, infos, 400)
    assert foretell(w, other, [20]).correlation == pytest.approx(spearmanr(flat[0], flat[1]).statistic)


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
        "## In short",
        "| product, 40 weights |",
        "scores: gradient and product, 40 weights",
        "Learning rates",
    ):
        assert part in text
    assert str(folder) not in text
    found = json.loads((folder / "overlaps.json").read_text())
    kinds = {pair["kind"]: pair for pair in found["pairs"]}
    assert set(kinds) == {"tasks", "seeds", "scores"}
    for pair in found["pairs"]:
        assert pair["k"] == 40
        assert pair["intersection"] == sum(both for both, _ in pair["layers"].values())
    assert -1 <= found["foretold"]["correlation"] <= 1
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
    assert list(figures.mean_ranks(["a", "b"], [1.5, 2.5]).data[0].x) == [1.5, 2.5]
    lines = figures.against_budget({"product": ([1e-4, 1e-2], [0.7, 0.8])}, {"full": 0.9})
    assert list(lines.data[0].x) == pytest.approx([0.01, 1])
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

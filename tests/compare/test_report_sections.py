"""Sections of a report: calibration, pairs of classes, retained gain, overlaps; and the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from shpeft import compare
from shpeft.backbones import WeightInfo
from shpeft.compare import Plan
from shpeft.compare.analysis.paired_comparison import Bootstrap, between
from shpeft.compare.analysis.results import Results
from shpeft.compare.analysis.retained_gain import retained_gains, retention_verdicts
from shpeft.compare.analysis.support_agreement import agreement_verdicts
from shpeft.compare.analysis.support_overlap import PrecisionAtK, SupportPair, auroc, magnitude_agreement
from shpeft.compare.report import figures as report_figures
from shpeft.compare.report.write import read_overlaps
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation.by_task import at_temperature
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import Predictions
from shpeft.importance.scores import Scores
from tests.helpers.command_line import shpeft
from tests.helpers.comparison_tables import ARMS, CORRECT, USUAL, first, made_up, planned, report_on

pytestmark = pytest.mark.usefixtures("no_browser")

QUESTIONS = planned().report.questions


def test_ranks_are_over_the_largest_complete_block(tmp_path: Path) -> None:
    plan = planned()
    rest = [(arm, d) for arm in ("same", "bad") for d in ("b", "c")]
    ranking = Results(plan, made_up(tmp_path, plan, without=rest)).ranking("accuracy")
    assert ranking is not None
    assert {e.arm for e in ranking.entries} == {"probe", "good"}  # 2 arms × 3 datasets, more than 4 × 1
    assert ranking.datasets == ("a", "b", "c")
    assert ranking.p is None


def test_pairs_of_classes_are_evaluated_by_themselves(tmp_path: Path) -> None:
    text = report_on(tmp_path / "a", planned(pairs={"a": ["no", "yes"]}))
    part = text.split("no against yes only")[1].split("###")[0]
    assert "| good, 0.01 % | 80.2 | +20.0 [" in part  # with equal confidences AUROC is the balanced accuracy
    with pytest.raises(RunError, match="'maybe'; there are no, yes"):
        report_on(tmp_path / "b", planned(pairs={"a": ["no", "maybe"]}))


def test_two_classes_by_themselves_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet(np.ones(3), 90), rng.integers(0, 3, 90)
    ids = tuple(map(str, range(90)))
    pair, rows = between(Predictions(ids, tuple(labels.tolist()), ids, ("a", "b", "c"), p), ("c", "a"))
    truth = labels[rows] == 0
    assert pair.labels == tuple(truth.astype(int).tolist())
    expected = roc_auc_score(truth, p[rows, 0] / (p[rows, 0] + p[rows, 2]))
    assert evaluate(pair, resamples=0).macro_auroc.value == pytest.approx(expected)


def test_calibration_has_intervals_and_less_is_better(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(), confidence={"good": 0.8, "same": 0.8})
    part = text.split("## Calibration")[1].split("##")[0]
    assert re.search(r"\| good, 0\.01 % \| 0\.2 \| 2\.[0-4] \| -29\.5 \[", part)
    assert part.split("| good")[1].split("\n")[0].endswith("| better |")
    assert "record no temperature" in part


def test_calibration_is_reported_before_and_after_scaling(tmp_path: Path) -> None:
    """80.2 % are correct at a confidence of 90 %: the temperature that turns 0.9 into 0.802 removes the error."""
    plan, temperature = planned(), float(np.log(9) / np.log(0.802 / 0.198))
    table = made_up(tmp_path, plan)
    for record in table.cells().values():
        if record["arm"] != "bad":
            calibrated = evaluate(at_temperature(table.predictions(record["key"]), temperature), resamples=0)
            table.add_cell(record | {"temperature": temperature, "ece_calibrated": calibrated.ece.value}, None)
    text = compare.write_report(plan, tmp_path, resamples=400).with_name("APPENDIX.md").read_text()
    row = next(line for line in text.split("## Calibration")[1].splitlines() if line.startswith("| good"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1] == "9.8"
    assert cells[5] == f"{temperature:.2f}"
    assert float(cells[6]) <= 0.3
    assert re.match(r"-19\.[78] \[", cells[8])
    assert cells[9] == "better"
    assert "| bad, 0.01 % | 29.7 " in text
    assert "18 of 24 cells record one" in text
    assert "each at the temperature fitted to its validation images? | **yes** |" in text


def test_datasets_near_chance_and_edges_of_grids_are_named(tmp_path: Path) -> None:
    text = report_on(tmp_path, planned(), correct={name: first(0.5) for name in USUAL})
    assert "On a, 0 of 4 arms exceed chance (50.0; 95 % interval): this dataset hardly tells arms apart." in text
    assert "bad, 0.01 % (high on 3)" in text
    assert "(`shpeft compare memory`)" in text


def test_auroc_by_ranks_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=300), 1)  # ties
    truth = rng.random(300) < 0.2
    assert auroc(scores[truth], np.sort(scores)) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_magnitude_agrees_with_itself_and_not_with_its_opposite() -> None:
    infos = tuple(
        WeightInfo(f"blocks.{b}.fc.weight", (20, 10), 200, b + 1, f"blocks.{b}", "fc.weight", True) for b in range(2)
    )
    values = {i.name: torch.rand(i.shape, generator=torch.Generator().manual_seed(i.depth)) for i in infos}
    w = Scores("magnitude", values, infos, 400)
    same = magnitude_agreement(w, w, [20])
    assert same.correlation == pytest.approx(1)
    assert same.auroc == {"20": 1.0}
    assert same.precision == {"20": PrecisionAtK(20, 20, 1.0)}
    assert same.by_layer == dict.fromkeys(values, pytest.approx(1))
    counts = [(precision.hits, precision.chosen) for precision in same.precision_by_layer["20"].values()]
    assert sum(hits for hits, _ in counts) == 20
    assert all(hits == chosen for hits, chosen in counts)
    assert agreement_verdicts(QUESTIONS, [], same)[0].answer == "yes"
    opposite = magnitude_agreement(w, Scores("c", {n: -v for n, v in values.items()}, infos, 400), [20])
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.auroc == {"20": 0.0}
    assert opposite.precision["20"].hits == 0
    assert agreement_verdicts(QUESTIONS, [], opposite)[0].answer == "no"
    other = Scores("c", {n: v.sin() + v % 0.1 for n, v in values.items()}, infos, 400)
    flat = [torch.cat([v.reshape(-1) for v in s.values()]) for s in (values, other.values)]
    agreement = magnitude_agreement(w, other, [20])
    assert agreement.correlation == pytest.approx(spearmanr(flat[0], flat[1]).statistic)
    best = [set(v.topk(20).indices.tolist()) for v in flat]
    assert agreement.precision["20"].hits == len(best[0] & best[1])


def test_tasks_that_share_weights_and_need_their_own() -> None:
    def pair(kind: str, shared: int, on: str) -> SupportPair:
        return SupportPair(kind, "gradient", on, 1e-4, 100, shared, 0.01, 1e-30, {"fc1": (shared, 2.0)})

    pairs = [pair("tasks", n, f"a, {n}") for n in (8, 15)] + [pair("seeds", n, f"a, {n}") for n in (41, 80)]
    assert [v.answer for v in agreement_verdicts(QUESTIONS, pairs, None)] == ["yes", "yes"]
    alike = [pair("tasks", 50, "a, b"), pair("seeds", 40, "a"), pair("seeds", 60, "b")]
    assert agreement_verdicts(QUESTIONS, alike, None)[1].answer == "no"
    chance = [SupportPair("tasks", "gradient", "a, b", 1e-4, 100, 1, 1.0, 0.6, {"fc1": (1, 2.0)})]
    assert agreement_verdicts(QUESTIONS, chance, None)[0].answer == "no"
    assert agreement_verdicts([], pairs, None) == []


def test_the_command_line_from_nothing_to_a_report(plan_file: Path) -> None:
    assert re.search(
        r"^gradient, 1 % +4 +6 +0.001, 0.01 +\d+\.\d\d$", shpeft("compare", plan_file, "--dry-run").output, re.M
    )
    filled = shpeft("compare", plan_file)
    assert re.search(r"\[1/20\] fundus, seed 0, probe: log loss .*, balanced accuracy .* of work left", filled.stderr)
    assert "20 cells in" in filled.stdout
    assert "[" not in shpeft("compare", "run", plan_file).stderr
    folder = plan_file.with_suffix("")
    assert not list(folder.glob("predictions/*.npz"))
    assert "0 cells packed" in shpeft("compare", "pack", plan_file).stdout
    shpeft("compare", "overlaps", plan_file)
    shpeft("compare", "report", plan_file, "--resamples", 200)
    text = (folder / "APPENDIX.md").read_text()
    for part in (
        "# Appendix: A test",
        "## Summary",
        "| product, 40 weights |",
        "scores: gradient and product, 40 weights",
        "Does each task need weights of its own (gradient, 40 weights)?",
        "Learning rates",
    ):
        assert part in text
    assert list(folder.glob("figures/overlaps.*"))
    assert Results.of(folder).plan == Plan.from_yaml(plan_file)
    assert str(folder) not in text
    overlaps = json.loads((folder / "overlaps.json").read_text())
    assert {pair["kind"] for pair in overlaps["pairs"]} == {"tasks", "seeds", "scores"}
    for pair in overlaps["pairs"]:
        assert pair["k"] == 40
        assert pair["intersection"] == sum(both for both, _ in pair["layers"].values())
    assert -1 <= overlaps["foretold"]["correlation"] <= 1
    magnitude = read_overlaps(folder)[1]
    assert magnitude is not None
    assert magnitude.precision["40"].chosen == 40
    (folder / "overlaps.json").write_text("{}")
    assert "Compute it again with `shpeft compare overlaps`" in shpeft("compare", "report", plan_file, code=2).output
    assert list((folder / "figures").glob("*.html"))


def test_a_plan_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in shpeft("compare", tmp_path / "missing.yaml", code=2).output
    with pytest.raises(ConfigError, match="no arms whose weights to compare"):
        compare.write_overlaps(planned(), tmp_path)


def test_what_the_largest_changes_retain(tmp_path: Path) -> None:
    """Full fine-tuning gains 30 points over the probe: 0.1 % of the weights retain 10 of them, 10 % retain 29."""
    plan = planned(arms=ARMS)
    results = Results(plan, made_up(tmp_path / "a", plan, correct=CORRECT))
    gains = retained_gains(Bootstrap(results, 400))
    assert [gain.budget for gain in gains] == [1e-3, 1e-1]
    assert [gain.share.value for gain in gains if gain.share] == pytest.approx([1 / 3, 29 / 30])
    assert [gain.loss.value for gain in gains] == pytest.approx([-0.2, -0.01])
    assert gains[0].metric.value == pytest.approx(0.7025)
    verdicts = retention_verdicts(results, gains)
    assert [v.answer for v in verdicts] == ["no", "yes"]
    assert verdicts[0].evidence.startswith("33 % [")
    text = report_on(tmp_path / "b", plan, correct=CORRECT)
    assert "## Sparsity: do a few weights decide the result?" in text
    assert "| 0.1 % | 70.2 [" in text


def test_the_largest_changes_of_two_trainings_are_reported_apart(tmp_path: Path) -> None:
    """The same budgets of two ways to fine-tune fully: 33 and 97 % of one gain, nothing of the other."""
    more = {"slow": {"kind": "full", "eps": 0.01}, "kept of slow": ARMS["kept"] | {"of": "slow"}}
    plan, correct = planned(arms=ARMS | more), CORRECT | {"slow": first(0.8), "kept of slow": first(0.6)}
    results = Results(plan, made_up(tmp_path / "a", plan, correct=correct))
    gains = retained_gains(Bootstrap(results, 400))
    assert [(gain.full.arm, gain.budget) for gain in gains] == [
        (of, k) for of in ("full", "slow") for k in (1e-3, 1e-1)
    ]
    assert [gain.share.value for gain in gains if gain.share] == pytest.approx([1 / 3, 29 / 30, 0, 0], abs=1e-9)
    verdicts = retention_verdicts(results, gains)
    assert [v.answer for v in verdicts] == ["no", "yes", "no", "no"]
    assert verdicts[2].question.startswith("Do the 0.1 % of weights that full fine-tuning (slow) changes most retain")
    drawn = report_figures.sparsity(results, gains)
    assert {trace.name for trace in drawn.data} >= {"kept", "kept of slow"}
    assert "| slow | 0.1 % | 60.2 [" in report_on(tmp_path / "b", plan, correct=correct)


def test_without_a_gain_there_is_nothing_to_retain(tmp_path: Path) -> None:
    plan = planned(arms=ARMS)
    results = Results(plan, made_up(tmp_path, plan, correct=CORRECT | {"full": first(0.6)}))
    gains = retained_gains(Bootstrap(results, 100))
    assert [gain.share for gain in gains] == [None, None]
    assert {v.answer for v in retention_verdicts(results, gains)} == {"not shown"}

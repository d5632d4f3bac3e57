"""The gate: what gets no answer, counted by hand."""

import numpy as np

from shpeft import evaluation
from shpeft.evaluation import AbstentionRule, DecisionRules, OODDistances, ThresholdRule
from shpeft.evaluation.gate import gate_rates
from shpeft.runs.reliability import distances_text, parse_distances, parse_reliability, reliability_text
from tests.helpers.predictions import binary_predictions, sample_predictions
from tests.helpers.present import present


def test_gate_counts_both_reasons_together() -> None:
    validation, test = sample_predictions(200, 1), sample_predictions(150, 2)
    rng = np.random.default_rng(0)
    distances = OODDistances(
        2.0, rng.uniform(0.5, 2.1, 200), rng.uniform(0.5, 2.1, 150), {"photographs": np.array([1.0, 3.0, 4.0])}
    )
    rules = DecisionRules(ThresholdRule("malignant"), abstention=AbstentionRule(on="threshold"))
    reliability = evaluation.fit_reliability(validation, rules, test, distances)
    gate = present(present(reliability.test).gate)
    calibrated = evaluation.calibrate_predictions(test, reliability.calibration.temperature)
    uncertain = present(reliability.abstention).abstains(calibrated.probabilities, test.classes)
    unlike = distances.test > 2.0
    flagged = calibrated.probabilities[:, 1] >= present(reliability.operating).threshold
    positive = np.asarray(test.labels) == 1
    withheld, wrong = uncertain | unlike, flagged != positive
    assert (gate.no_answer.count, gate.no_answer.cases) == (withheld.sum(), 150)
    assert (gate.unlike.count, gate.uncertain.count) == (unlike.sum(), uncertain.sum())
    assert (gate.wrong_answers.count, gate.wrong_answers.cases) == ((wrong & ~withheld).sum(), (~withheld).sum())
    assert (gate.errors_withheld.count, gate.errors_withheld.cases) == ((wrong & withheld).sum(), wrong.sum())
    assert present(gate.missed).count == (positive & ~flagged & ~withheld).sum()
    assert gate.others["photographs"].counts == "2 of 3"
    assert f"No answer for {gate.no_answer.count} of 150 images" in gate.sentences[0]
    assert gate.sentences[-1] == "Images of other kinds that get no answer: photographs: 2 of 3."
    assert present(reliability.gate).no_answer.cases == 200
    assert parse_reliability(reliability_text(reliability).encode()) == reliability


def test_gate_without_a_band_and_without_a_threshold() -> None:
    predictions = binary_predictions([0.2, 0.8, 0.9, 0.4], [0, 1, 0, 1])
    gate = gate_rates(predictions, None, None, np.array([1.0, 1.0, 3.0, 1.0]), 2.0)
    assert gate.no_answer.counts == gate.unlike.counts == "1 of 4"
    assert gate.uncertain.count == 0
    assert gate.wrong_answers.counts == "1 of 3"
    assert gate.errors_withheld.counts == "1 of 2"
    assert gate.missed is None


def test_distances_survive_their_file() -> None:
    distances = OODDistances(1.25, np.array([0.5, 1.1]), np.array([0.1 + 0.2]), {"mri phantoms": np.array([7.0])})
    again = parse_distances(distances_text(distances).encode())
    assert again.limit == distances.limit
    for name in ("validation", "test"):
        assert np.array_equal(getattr(again, name), getattr(distances, name))
    assert np.array_equal(again.others["mri phantoms"], [7.0])

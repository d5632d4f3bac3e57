"""The answer to a case: decision, reasons against it, and the counts behind it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from shpeft import evaluation
from shpeft.evaluation import NO_ANSWER, DecisionRules, OODScore, SetRule, ThresholdRule, answer_case, assess_case
from tests.helpers.predictions import CLASSES, binary_predictions, sample_predictions
from tests.helpers.present import present

USUAL, ODD = OODScore(1.0, 0.4, alarm=False), OODScore(4.0, 1.0, alarm=True)


@pytest.fixture(scope="module")
def reliability() -> evaluation.Reliability:
    rules = DecisionRules(ThresholdRule("malignant", "sensitivity", 0.9), SetRule(by_class=True))
    return evaluation.fit_reliability(sample_predictions(200, 1), rules, sample_predictions(150, 2))


def test_answer_is_the_decision_at_the_threshold_with_its_test_counts(reliability: evaluation.Reliability) -> None:
    p = (0.45, 0.3, 0.25)
    case = assess_case(reliability, p)
    answer = answer_case(CLASSES, p, case, USUAL)
    threshold, tested = present(reliability.operating).threshold, present(present(reliability.test).operating)
    assert answer.given == (not case.abstains)
    assert answer.decision == ("malignant: positive" if case.probabilities[1] >= threshold else "malignant: negative")
    assert (answer.probability_of, answer.probability) == ("malignant", case.probabilities[1])
    assert f"{tested.sensitivity.count} of {tested.sensitivity.cases} test images" in answer.operating_sentence
    assert f"{tested.specificity.count} of {tested.specificity.cases} others" in answer.operating_sentence
    behind = case.evidence[1].observed
    assert f"Of {behind.cases} validation images" in answer.evidence_sentence
    assert f"{behind.count} had it" in answer.evidence_sentence
    covered = present(reliability.test).coverage.by_class["malignant"]
    assert f"malignant: {covered.count} of {covered.cases}" in answer.coverage_sentence
    assert answer.still_possible_sentence == f"Still possible: {', '.join(case.prediction_set)}."


def test_answer_without_a_threshold_is_the_most_probable_class() -> None:
    test = sample_predictions(150, 2)
    reliability = evaluation.fit_reliability(sample_predictions(200, 1), test=test)
    case = assess_case(reliability, (0.9, 0.05, 0.05))
    answer = answer_case(CLASSES, (0.9, 0.05, 0.05), case, USUAL)
    calibrated = evaluation.calibrate_predictions(test, reliability.calibration.temperature)
    guess, truth = calibrated.probabilities.argmax(1), np.asarray(test.labels)
    assert (answer.headline, answer.threshold) == ("benign", None)
    assert present(answer.rates).sensitivity.count == ((guess == 0) & (truth == 0)).sum()
    assert present(answer.rates).specificity.count == ((guess != 0) & (truth != 0)).sum()


def test_every_reason_against_an_answer_is_a_sentence(reliability: evaluation.Reliability) -> None:
    band = present(reliability.abstention).band
    uncertain = np.full(3, 1 / 3)
    case = assess_case(reliability, uncertain.tolist())
    assert case.probabilities == pytest.approx(uncertain)
    assert band[0] <= 1 / 3 < band[1]
    answer = answer_case(CLASSES, uncertain.tolist(), case, replace(ODD, mismatches=("The file is marked as CT.",)))
    assert answer.headline == NO_ANSWER
    assert not answer.given
    assert len(answer.reasons) == 3
    assert all(reason.endswith(".") for reason in answer.reasons)
    assert answer.decision in ("malignant: positive", "malignant: negative")
    sure = assess_case(reliability, (0.98, 0.01, 0.01))
    assert answer_case(CLASSES, (0.98, 0.01, 0.01), sure, USUAL).given
    for ood in (ODD, replace(USUAL, mismatches=("The file is marked as CT.",))):
        assert answer_case(CLASSES, (0.98, 0.01, 0.01), sure, ood).headline == NO_ANSWER
    assert json.loads(json.dumps(answer.to_dict(), allow_nan=False)) == answer.to_dict()


def test_uncalibrated_answer_says_so() -> None:
    answer = answer_case(CLASSES, (0.2, 0.7, 0.1))
    assert (answer.headline, answer.calibrated) == ("malignant", False)
    assert answer.sentences == ("The uncalibrated probability of malignant is 70.0 %.",)


def test_positive_class_is_always_still_possible(reliability: evaluation.Reliability) -> None:
    threshold = present(reliability.operating).threshold
    test = evaluation.calibrate_predictions(sample_predictions(500, 3), reliability.calibration.temperature)
    inside = reliability.sets.members(test.probabilities, reliability.operating)
    positive = test.probabilities[:, 1] >= threshold
    assert inside[positive, 1].all()
    without = reliability.sets.members(test.probabilities)
    assert (inside >= without).all()
    assert (inside[~positive] == without[~positive]).all()


def test_headline_counts_what_is_found_and_flagged(reliability: evaluation.Reliability) -> None:
    test = evaluation.calibrate_predictions(sample_predictions(150, 2), reliability.calibration.temperature)
    truth, p = np.asarray(test.labels) == 1, test.probabilities
    flagged = p[:, 1] >= present(reliability.operating).threshold
    alone = (truth & (p.argmax(1) == 1)).sum()
    assert reliability.headline == (
        f"Finds {(truth & flagged).sum()} of {truth.sum()} malignant; {(~truth & flagged).sum()} of {(~truth).sum()} "
        f"others are flagged. By the most probable class alone: {alone} of {truth.sum()}."
    )
    open_question = evaluation.fit_reliability(sample_predictions(200, 1), test=sample_predictions(150, 2))
    for name in CLASSES:
        recall = present(present(open_question.test).by_class)[name].sensitivity
        assert f"{recall.count} of {recall.cases} {name}" in open_question.headline
    untested = evaluation.fit_reliability(sample_predictions(200, 1), reliability.rules)
    assert untested.headline.startswith("On the validation images: Finds ")


def test_a_negative_answer_names_the_most_probable_class(reliability: evaluation.Reliability) -> None:
    answers = [answer_case(CLASSES, p, assess_case(reliability, p)) for p in ((0.97, 0.01, 0.02), (0.02, 0.01, 0.97))]
    assert [answer.headline for answer in answers] == [
        f"malignant: negative; most probable: {CLASSES[0]}",
        f"malignant: negative; most probable: {CLASSES[2]}",
    ]
    assert {answer.decision for answer in answers} == {"malignant: negative"}
    positive = answer_case(CLASSES, (0.01, 0.98, 0.01), assess_case(reliability, (0.01, 0.98, 0.01)))
    assert positive.headline == "malignant: positive"


def test_a_threshold_that_flags_every_image_says_so() -> None:
    validation = binary_predictions([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], [1, 1, 0, 1, 0, 0, 0, 1])
    fitted = evaluation.fit_reliability(
        validation, DecisionRules(ThresholdRule("ill", "sensitivity", 1.0)), test=validation
    )
    assert "4 of 4 others are flagged. It flags every image, so a flag says nothing." in fitted.headline
    answer = answer_case(("healthy", "ill"), (0.1, 0.9), assess_case(fitted, (0.1, 0.9)))
    assert answer.operating_sentence.endswith("All others are flagged, so a flag says nothing.")
    useful = evaluation.fit_reliability(validation, DecisionRules(ThresholdRule("ill")), test=validation)
    assert "says nothing" not in useful.headline

"""Fingerprints of a batch's rows, and counts over them."""

from shpeft.batch.csv_rows import _stable_repr, summary
from shpeft.evaluation import fit_reliability
from tests.helpers.predictions import sample_predictions


def test_fingerprint_uses_the_first_names_of_classes_and_fields() -> None:
    """A renamed class must not make the rows of an unfinished batch outdated."""
    text = _stable_repr((fit_reliability(sample_predictions(40, 0)), {"a": 1}, ("b",)))
    assert text.startswith(
        "(Trust(choices=Choices(threshold=None, sets=SetRule(method='lac', coverage=0.9, by_class=True), "
        "abstention=AbstentionRule(by='coverage', target=0.9, on='maximum', confidence=0.9)), "
        "classes=('benign', 'malignant', 'normal'), "
        "calibration=Calibration(temperature="
    )
    assert "validation=Answered(coverage=Proportion(count=" in text
    assert text.endswith("test=None, gate=None), {'a': 1}, ('b',))")


def test_counts_are_by_answer_and_older_files_have_their_prediction() -> None:
    rows = "id,predicted,answer,abstain,unlike_training,error\n"
    counts = summary(
        rows
        + "a,ill,ill: positive,no,no,\n"
        + "b,not an answer: ill,No answer,yes,no,\n"
        + "c,not an answer: ill,No answer,no,yes,\n"
        + "d,,,,,damaged\n"
    )
    assert counts.answers == {"No answer": 2, "ill: positive": 1}
    assert (counts.done, counts.unreadable, counts.abstained, counts.unlike_training, counts.marked) == (4, 1, 1, 1, 0)
    assert summary("id,answer,abstain,unlike_training,text_or_markers,error\na,ill,no,no,yes,\n").marked == 1
    assert summary("id,predicted,abstain,unlike_training,error\na,ill,no,no,\n").answers == {"ill": 1}

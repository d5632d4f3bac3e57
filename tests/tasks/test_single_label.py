"""Single labels: what every dataset had before tasks had names, to the bit."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.tasks import SINGLE_LABEL, read_task


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_torchs_cross_entropy_to_the_bit(reduction: str) -> None:
    logits, labels = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), [0, 1, 2, 2, 1, 0, 0]
    target = SINGLE_LABEL.target(labels)
    assert target.dtype == torch.int64
    assert torch.equal(SINGLE_LABEL.loss(logits, target, reduction), cross_entropy(logits, target, reduction=reduction))  # type: ignore[arg-type]
    assert torch.equal(SINGLE_LABEL.probabilities(logits), logits.double().softmax(1))
    assert torch.equal(SINGLE_LABEL.probabilities(logits[0]), logits[0].double().softmax(0))


def test_labels_are_positions_in_the_classes() -> None:
    classes = ("a", "b", "c")
    assert SINGLE_LABEL.counts([0, 2, 2], classes) == {"a": 1, "b": 0, "c": 2}
    assert SINGLE_LABEL.renumbered([0, 2, 1], classes, ("c", "a", "b")) == (1, 0, 2)
    assert SINGLE_LABEL.strata([0, 2], classes) == [(0,), (2,)]
    assert [SINGLE_LABEL.parse(SINGLE_LABEL.text(label, classes), classes) for label in range(3)] == [0, 1, 2]


def test_a_task_is_read_from_what_it_writes_and_an_unknown_one_is_refused() -> None:
    assert read_task(SINGLE_LABEL.to_dict()) == read_task(None) == SINGLE_LABEL
    several: list[dict[str, object]] = [{"name": "segmentation"}, {}, {"name": "single-label", "more": 1}, {"name": []}]
    for damaged in several:
        with pytest.raises(ValueError, match="unknown to this version"):
            read_task(damaged)

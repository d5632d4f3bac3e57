"""Several findings: the loss of what is known, and labels as text."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from shpeft.tasks import MULTI_LABEL

FINDINGS = ("edema", "effusion", "mass")
LABELS = ((0, 1, -1), (1, 0, 0), (-1, -1, -1), (1, 1, 0))
LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_loss_is_the_binary_cross_entropy_of_what_is_known() -> None:
    target = MULTI_LABEL.target(LABELS)
    expected = [
        sum(
            binary_cross_entropy_with_logits(LOGITS[i, c], target[i, c].double()).item()
            for c in range(3)
            if LABELS[i][c] >= 0
        )
        / 3
        for i in range(4)
    ]
    assert MULTI_LABEL.loss(LOGITS, target, "sum").item() == pytest.approx(sum(expected), rel=1e-12)
    assert MULTI_LABEL.loss(LOGITS, target).item() == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_what_is_unknown_has_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    MULTI_LABEL.loss(logits, MULTI_LABEL.target(LABELS)).backward()
    assert logits.grad is not None
    unknown = torch.tensor(LABELS) < 0
    assert bool((logits.grad[unknown] == 0).all())
    assert bool((logits.grad[~unknown] != 0).all())


def test_a_label_is_read_from_its_text() -> None:
    texts = [MULTI_LABEL.text(label, FINDINGS) for label in LABELS]
    assert texts == ["effusion|?mass", "edema", "?edema|?effusion|?mass", "edema|effusion"]
    assert tuple(MULTI_LABEL.parse(text, FINDINGS) for text in texts) == LABELS
    assert MULTI_LABEL.parse("No Finding", FINDINGS) == (0, 0, 0)
    assert MULTI_LABEL.parts("edema| mass|?effusion|No finding") == ("edema", "mass")
    with pytest.raises(ValueError, match="nodule"):
        MULTI_LABEL.parse("nodule", FINDINGS)


def test_counts_strata_and_other_orders() -> None:
    assert MULTI_LABEL.counts(LABELS, FINDINGS) == {"edema": 2, "effusion": 2, "mass": 0}
    assert MULTI_LABEL.strata([(0, 0), (1, 1), (0, 0)], ("a", "b")) == [(2,), (0, 1), (2,)]
    assert MULTI_LABEL.renumbered(LABELS[:2], FINDINGS, ("mass", "nodule", "edema")) == ((-1, -1, 0), (0, -1, 1))


def test_what_cannot_be_learned_is_named() -> None:
    assert MULTI_LABEL.unlearnable([(1, 0), (0, 1)], ("a", "b")) == ""
    assert MULTI_LABEL.unlearnable([(1, 0), (1, 1)], ("a", "b")) == "no image is known to lack 'a'"
    assert MULTI_LABEL.unlearnable([(1, -1), (0, 0)], ("a", "b")) == "no image has 'b'"

"""Ordered classes: a loss of cumulative probabilities."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.tasks import ORDINAL, read_task

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = [0, 3, 1, 2, 2, 0]


def test_the_loss_is_that_of_each_cut() -> None:
    p = LOGITS.softmax(1).numpy()
    expected = [
        -sum(np.log(p[i, : k + 1].sum() if y <= k else p[i, k + 1 :].sum()) for k in range(3))
        for i, y in enumerate(LABELS)
    ]
    target = ORDINAL.target(LABELS)
    assert ORDINAL.loss(LOGITS, target, "sum").item() == pytest.approx(sum(expected), rel=1e-12)
    assert ORDINAL.loss(LOGITS, target).item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_of_two_classes_it_is_the_cross_entropy() -> None:
    target = torch.tensor([0, 1, 1, 0, 1, 0])
    torch.testing.assert_close(ORDINAL.loss(LOGITS[:, :2], target), cross_entropy(LOGITS[:, :2], target))


def test_it_is_lowest_at_the_true_distribution() -> None:
    """The score is proper: the expected loss over labels drawn from q is lowest where the softmax is q."""
    q = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        losses = [ORDINAL.loss(logits, torch.tensor([y])) for y in range(4)]
        loss = (q * torch.stack(losses)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(logits.detach().softmax(1)[0], q, atol=1e-5, rtol=0)


def test_a_sure_and_wrong_model_has_a_finite_loss_and_a_gradient() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 200.0]], requires_grad=True)
    loss = ORDINAL.loss(logits, torch.tensor([0]))
    loss.backward()
    assert logits.grad is not None
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad.any())


def test_it_is_read_from_what_it_writes() -> None:
    assert read_task(ORDINAL.to_dict()) == ORDINAL

"""The loss of fine-tuning against its definition, and the balanced validation loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.datasets import Dataset
from shpeft.errors import TrainingError
from shpeft.evaluation.predict import Predictions
from shpeft.evaluation.temperature import refinement_loss
from shpeft.tasks import SINGLE_LABEL, SingleLabel
from shpeft.training.batches import TrainingBatches, balanced_weights
from shpeft.training.loss import TrainingLoss
from tests.conftest import stripes


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=generator, dtype=torch.float64), torch.arange(12) % 3


def test_the_default_is_cross_entropy_to_the_bit(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert torch.equal(TrainingLoss()(*batch), cross_entropy(*batch))


def test_weights_and_smoothing_by_hand(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = batch
    weights = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    log_p, smoothed = logits.log_softmax(1), 0.9 * torch.eye(3, dtype=torch.float64)[target] + 0.1 / 3
    expected = -(weights * smoothed * log_p).sum() / 12
    torch.testing.assert_close(TrainingLoss(SINGLE_LABEL, True, (0.5, 1.0, 3.0), 0.1)(logits, target), expected)
    shares = torch.eye(3, dtype=torch.float64)[target]
    torch.testing.assert_close(TrainingLoss(SINGLE_LABEL, True, (0.5, 1.0, 3.0), 0.1)(logits, shares), expected)


def test_a_shard_of_a_batch_adds_up(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = batch
    loss = TrainingLoss(SINGLE_LABEL, True, (0.5, 1.0, 3.0))
    parts = 4 * loss(logits[:4], target[:4]) + 8 * loss(logits[4:], target[4:])
    torch.testing.assert_close(parts / 12, loss(logits, target))


def test_class_weights_make_every_class_weigh_the_same() -> None:
    split = stripes(0, 10, "train")
    loss = TrainingLoss.of(split, "loss")
    assert loss.class_weights is not None
    sums = [weight * count for weight, count in zip(loss.class_weights, split.counts().values(), strict=True)]
    assert sums == pytest.approx([10 / 3] * 3)
    assert TrainingLoss.of(split, "sampling").class_weights is None
    assert TrainingLoss.of(split, "sampling").balanced


def test_the_balanced_validation_loss_is_that_of_repeated_cases() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 10)
    p = rng.dirichlet((1, 1), 40)
    predictions = Predictions(tuple(map(str, labels)), tuple(labels.tolist()), (), ("a", "b"), p)
    rows = np.r_[np.arange(40), *[np.arange(30, 40)] * 2]
    repeated = refinement_loss(p[rows], labels[rows].tolist())
    assert TrainingLoss(balanced=True).validation(predictions) == pytest.approx(repeated, rel=1e-3)
    assert TrainingLoss().validation(predictions) == refinement_loss(p, labels.tolist())
    assert refinement_loss(p, labels.tolist(), balanced_weights(labels.tolist(), 2)) != refinement_loss(
        p, labels.tolist()
    )


class Graded(SingleLabel):
    """A task of another kind."""

    name = "graded"


def test_options_that_need_one_class_for_each_image_are_refused_elsewhere(data: Dataset) -> None:
    graded = replace(data, train=replace(data.train, task=Graded()))
    for options in ({"mixup": 0.2}, {"balance": "loss"}):
        with pytest.raises(TrainingError, match="one class for each image, and the task of these images is graded"):
            TrainingBatches(graded, **options)
    with pytest.raises(TrainingError, match="The option label_smoothing needs"):
        TrainingLoss.of(graded.train, label_smoothing=0.1)
    assert TrainingLoss.of(graded.train).task == Graded()

"""Cross-fitted heads: none has seen the images that are scored under it, and the score is the mean over images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shpeft import equations
from shpeft.backbones import create_backbone
from shpeft.config.schema import Norm
from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import DatasetError, SelectionError
from shpeft.evaluation.by_task import fit_temperatures
from shpeft.evaluation.predict import predict
from shpeft.importance.cross_fitted_heads import FOLDS, fit_cross_fitted_heads
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import CrossFittedHeads, fit_linear_probe
from shpeft.tasks import read_task
from tests.conftest import assert_unchanged, state, stripes, tiny
from tests.helpers.finding_tables import write_findings


@pytest.fixture(scope="module")
def heads(data: Dataset) -> CrossFittedHeads:
    return fit_cross_fitted_heads(tiny(), data.train, data.val)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradients_are_means_over_images_each_under_its_own_head(
    norm: Norm, data: Dataset, heads: CrossFittedHeads
) -> None:
    """Against one backward pass for each image; for the seeded sample of 20 images, in batches of 8."""
    backbone = tiny(dtype=torch.float64)
    before, order = state(backbone), torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20].tolist()
    names = [info.name for info in backbone.weight_infos("last:1")]
    total = {name: torch.zeros_like(backbone.parameters[name]) for name in names}
    terms = {name: torch.zeros_like(backbone.parameters[name]) for name in names}
    for row in order:
        pixels = backbone.transform.pixels(data.train.image(row))[None]
        with heads.heads[heads.folds[row]].applied(backbone):
            logits = backbone(backbone.transform.normalize(pixels).double())
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([data.train.labels[row]]))
            gradients = torch.autograd.grad(loss, [backbone.parameters[name] for name in names])
        for name, g in zip(names, gradients, strict=True):
            total[name] += g / 20
            terms[name] += equations.task_specific(g, norm) / 20
    score = {"l1": "gradient", "l2": "fisher"}[norm]
    options = {"scope": "last:1", "images": 20, "batch_size": 8}
    for expectation in ("all", "image"):
        scores = estimate_importance(
            backbone,
            data.train,
            score,
            expectation=expectation,
            head=heads,
            **options,  # type: ignore[arg-type]
        )
        assert_unchanged(backbone, before)
        for name in names:
            expected = terms[name] if expectation == "image" else equations.task_specific(total[name], norm)
            torch.testing.assert_close(scores.values[name], expected.detach(), rtol=1e-6, atol=1e-12)


def test_no_head_depends_on_the_images_that_it_leaves_out(data: Dataset, heads: CrossFittedHeads) -> None:
    """Other images in one fold change every head but its own, of which no bit changes."""
    train, other = data.train, stripes(3, 60, "train")
    rows = [row for row, fold in enumerate(heads.folds) if fold == 2]

    class Mixed:
        def image(self, index: int) -> object:
            return (other if index in rows else train).image(index)

        def mask(self, index: int) -> None:
            return None

    ids = tuple((other if row in rows else train).ids[row] for row in range(60))
    changed = fit_cross_fitted_heads(tiny(), replace(train, ids=ids, source=Mixed()), data.val)  # type: ignore[arg-type]
    assert changed.folds == heads.folds
    assert [a.equals(b) for a, b in zip(changed.heads, heads.heads, strict=True)] == [False, False, True, False, False]


def test_folds_hold_every_class_and_whole_groups(data: Dataset, heads: CrossFittedHeads) -> None:
    def by_fold(of: CrossFittedHeads, values: tuple[object, ...]) -> list[set[object]]:
        return [{v for v, f in zip(values, of.folds, strict=True) if f == fold} for fold in range(FOLDS)]

    assert by_fold(heads, data.train.labels) == [{0, 1, 2}] * FOLDS
    assert [heads.folds.count(fold) for fold in range(FOLDS)] == [12] * FOLDS
    groups = tuple(str(row // 3) for row in range(60))
    grouped = fit_cross_fitted_heads(tiny(), replace(data.train, groups=groups), data.val)
    parts = by_fold(grouped, groups)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20
    other = fit_cross_fitted_heads(tiny(), data.train, data.val, seed=1)
    assert other.folds != heads.folds


def test_rows_go_to_the_head_that_leaves_them_out(heads: CrossFittedHeads) -> None:
    parts = heads.parts([7, 3, 59, 0])
    assert sorted(row for _, rows in parts for row in rows) == [0, 3, 7, 59]
    assert parts
    for head, rows in parts:
        assert all(heads.heads[heads.folds[row]] is head for row in rows)
    assert heads.parts([]) == []


@pytest.mark.parametrize("task", ["single-label", "ordinal", "multi-label", "regression"])
def test_every_task_has_heads_at_their_best_temperature(task: str, tmp_path: Path, data: Dataset) -> None:
    if task == "multi-label":
        data = load_dataset(str(write_findings(tmp_path, cases=72)), task="multi-label", seed=0)
    elif task == "regression":
        data = load_dataset("phantom:nodule?n=72&size=32", task="regression", seed=0)
    else:
        train, val, test = (replace(split, task=read_task({"name": task})) for split in data.splits)
        data = replace(data, train=train, val=val, test=test)
    backbone = create_backbone("test_vit", classes=data.classes, weights="random", image_size=32, task=data.task)
    heads = fit_cross_fitted_heads(backbone, data.train, data.val)
    assert len(heads.heads) == FOLDS
    for head in heads.heads:
        with head.applied(backbone):
            fitted = fit_temperatures(predict(backbone, data.val))
        if task == "regression":
            assert fitted is None
        else:
            assert np.asarray(fitted) == pytest.approx(1.0, abs=1e-3)
    assert estimate_importance(backbone, data.train, images=8, head=heads).values
    assert not any(head.equals(fit_linear_probe(backbone, data.train, data.val)) for head in heads.heads)


def test_what_cannot_be_cross_fitted_is_refused(data: Dataset, heads: CrossFittedHeads) -> None:
    few = data.train.subset(range(12))
    with pytest.raises(DatasetError, match=r"No heads can be cross-fitted.*class 'left' has images of 4.*Or use"):
        fit_cross_fitted_heads(tiny(), few, data.val)
    with pytest.raises(SelectionError, match="60 images have cross-fitted heads, 12 are scored"):
        estimate_importance(tiny(), few, head=heads)
    with pytest.raises(SelectionError, match="expectation 'all' or 'image'"):
        estimate_importance(tiny(), data.train, expectation="batch", head=heads)

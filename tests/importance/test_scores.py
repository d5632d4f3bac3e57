"""Scores against the equations applied batch by batch, and the model left alone."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import cross_entropy

from shpeft import equations
from shpeft.backbones import Backbone
from shpeft.config.schema import Norm, Normalizer, Score
from shpeft.datasets import Dataset, batches
from shpeft.datasets.base import Split
from shpeft.errors import SelectionError
from shpeft.forward.base import ForwardPass
from shpeft.importance.gradient_passes import ScoringPass, per_image_gradient_layers
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import Head
from shpeft.selection.overlap import overlap
from shpeft.selection.top_k import select
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.present import present

importance = partial(estimate_importance, scope="matrices")
"""Scores of the matrices of all blocks."""

Term = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def slow_mean(
    backbone: Backbone,
    split: Split,
    term: Term,
    *,
    images: int = 48,
    batch_size: int = 16,
    seed: int = 0,
    scope: str = "matrices",
) -> dict[str, torch.Tensor]:
    """Return Ē term(w, g) from the dense gradient of every batch, as defined."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images].tolist()
    names = [info.name for info in backbone.weight_infos(scope)]
    total: dict[str, torch.Tensor] = {}
    count = 0
    for pixels, target in batches(split, backbone.transform, batch_size, order=order):
        loss = cross_entropy(backbone(backbone.transform.normalize(pixels)), target)
        for name, g in zip(names, torch.autograd.grad(loss, [backbone.parameters[n] for n in names]), strict=True):
            total[name] = total.get(name, torch.tensor(0.0)) + term(backbone.parameters[name].detach(), g)
        count += 1
    return {name: value / count for name, value in total.items()}


def assert_scores(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-9)


TERMS: dict[tuple[Score, Norm], Term] = {
    ("gradient", "l1"): lambda w, g: equations.task_specific(g, "l1"),
    ("fisher", "l1"): lambda w, g: equations.task_specific(g, "l2"),
    ("hybrid", "l1"): lambda w, g: equations.hybrid_product(w, g, "l1"),
    ("hybrid", "l2"): lambda w, g: equations.hybrid_product(w, g, "l2"),
}


@pytest.mark.parametrize("model", ["test_vit", "test_convnext", "test_resnet"])
@pytest.mark.parametrize(("score", "norm"), TERMS)
def test_scores_equal_their_definition(model: str, score: Score, norm: Norm, data: Dataset) -> None:
    backbone = tiny(model)
    before = state(backbone)
    scores = importance(backbone, data.train, score, norm=norm, images=48, expectation="batch")
    assert_unchanged(backbone, before)
    assert_scores(scores.values, slow_mean(backbone, data.train, TERMS[score, norm]))
    assert_unchanged(backbone, before)


BY_IMAGE = [
    ("test_vit", "matrices"),
    ("test_vit", "last:2"),
    ("test_vit", "all"),  # layer norms, biases and tokens among them: the images go one by one
    ("test_convnext", "matrices"),  # depthwise convolutions
    ("test_resnet", "matrices"),  # activations in place
    ("test_efficientnet", "matrices"),
]


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(("model", "scope"), BY_IMAGE)
def test_scores_by_image_equal_batches_of_one(model: str, scope: str, norm: Norm, data: Dataset) -> None:
    backbone = tiny(model)
    before = state(backbone)
    scores = importance(backbone, data.train, norm=norm, scope=scope, images=20, batch_size=8, expectation="image")
    assert_unchanged(backbone, before)
    expected = slow_mean(backbone, data.train, TERMS["hybrid", norm], images=20, batch_size=1, scope=scope)
    assert_scores(scores.values, expected)
    assert scores.name == f"hybrid product ({norm}, by image)"


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(("model", "scope"), [("test_vit", "all"), ("test_convnext", "matrices")])
def test_scores_of_all_images_equal_one_large_batch(model: str, scope: str, norm: Norm, data: Dataset) -> None:
    """Count each image once in batches of 8 and a last one of 4."""
    backbone = tiny(model)
    before = state(backbone)
    scores = importance(backbone, data.train, norm=norm, scope=scope, images=20, batch_size=8)
    assert_unchanged(backbone, before)
    expected = slow_mean(backbone, data.train, TERMS["hybrid", norm], images=20, batch_size=20, scope=scope)
    for name, value in expected.items():
        torch.testing.assert_close(scores.values[name], value, rtol=1e-4, atol=1e-5 * float(value.max()))
    assert scores.name == f"hybrid product ({norm}, of all images)"


def test_only_plain_layers_called_once_have_per_image_gradients(data: Dataset) -> None:
    backbone = tiny()
    scoring = ScoringPass(ForwardPass(backbone), data.train, range(6))
    module: Any = backbone.module
    attn, later = module.blocks[0].attn, module.blocks[3].mlp.fc1
    qkv, forward = attn.qkv, attn.forward
    weights = {"blocks.0.attn.qkv.weight": qkv.weight, "blocks.3.mlp.fc1.weight": later.weight}
    assert present(per_image_gradient_layers(scoring, weights)).keys() == {"blocks.0.attn.qkv", "blocks.3.mlp.fc1"}
    assert per_image_gradient_layers(scoring, {"pos_embed": backbone.parameters["pos_embed"]}) is None

    attn.forward = lambda x, **k: forward(x, **k) + 0 * qkv.weight.sum()
    assert per_image_gradient_layers(scoring, weights) is None  # the weight is also used outside the layer
    attn.forward = lambda x, **k: forward(x, **k) + 0 * qkv(x).sum()
    assert per_image_gradient_layers(scoring, weights) is None  # called twice
    attn.forward = lambda x, **k: attn.proj(functional.linear(x, qkv.weight, qkv.bias)[..., :64])
    assert per_image_gradient_layers(scoring, weights) is None  # never called
    scores = importance(backbone, data.train, "fisher", images=6, batch_size=4, expectation="image")
    assert_scores(scores.values, slow_mean(backbone, data.train, TERMS["fisher", "l1"], images=6, batch_size=1))


@pytest.mark.parametrize("normalizer", ["mean", "max", "rank"])
def test_the_sum_joins_normalized_halves(normalizer: Normalizer, data: Dataset) -> None:
    scores = importance(tiny(), data.train, formula="sum", lam=0.3, normalizer=normalizer, images=32)
    specific, agnostic = (torch.cat([v.reshape(-1) for v in half.values.values()]) for half in present(scores.halves))

    def n(s: torch.Tensor) -> torch.Tensor:
        return equations.rank(s) if normalizer == "rank" else s / equations.scale(s, normalizer)

    actual = torch.cat([v.reshape(-1) for v in scores.values.values()])
    torch.testing.assert_close(actual, equations.hybrid_sum(n(specific), n(agnostic), 0.3))


def test_the_quota_keeps_its_halves_and_selects_from_both(data: Dataset) -> None:
    backbone = tiny()
    scores = importance(backbone, data.train, formula="quota", images=32)
    assert scores.values == {}
    support = select(scores, 100)
    by_half = [select(half, 50) for half in present(scores.halves)]
    assert overlap(support, by_half[0], scores.infos).intersection == 50
    assert overlap(support, by_half[1], scores.infos).intersection == 50


def test_wanda_sees_the_inputs(data: Dataset) -> None:
    backbone = tiny()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:16].tolist()
    pixels, _ = next(batches(data.train, backbone.transform, 16, order=order))
    seen: list[torch.Tensor] = []
    layer = backbone.module.get_submodule("blocks.2.mlp.fc2")
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        backbone(backbone.transform.normalize(pixels))
    handle.remove()
    scores = importance(backbone, data.train, "wanda", images=16)
    norm = seen[0].reshape(-1, seen[0].shape[-1]).norm(dim=0)
    expected = backbone.parameters["blocks.2.mlp.fc2.weight"].abs() * norm
    torch.testing.assert_close(scores.values["blocks.2.mlp.fc2.weight"], expected.detach())
    for model in ("test_convnext", "test_resnet"):
        assert importance(tiny(model), data.train, "wanda", images=8).values
    with pytest.raises(SelectionError, match="scope 'matrices'"):
        importance(backbone, data.train, "wanda", scope="all", images=8)


def test_magnitude_needs_no_data_and_random_only_a_seed(data: Dataset) -> None:
    backbone = tiny()
    magnitude = importance(backbone, data.train.subset([]), "magnitude")
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(magnitude.values[name], backbone.parameters[name].detach().abs())
    first, two, three = (importance(backbone, data.train, "random", seed=s).values[name] for s in (1, 1, 2))
    assert torch.equal(first, two)
    assert not torch.equal(first, three)


def test_a_given_head_is_used(data: Dataset) -> None:
    backbone = tiny()
    before = state(backbone)
    head = Head(torch.randn(3, 64), torch.randn(3))
    scores = importance(backbone, data.train, "gradient", images=32, expectation="batch", head=head)
    assert_unchanged(backbone, before)
    with head.applied(backbone):
        expected = slow_mean(backbone, data.train, TERMS["gradient", "l1"], images=32)
    assert_scores(scores.values, expected)
    without = importance(backbone, data.train, "gradient", images=32, expectation="batch")
    assert not torch.equal(without.values["blocks.5.mlp.fc2.weight"], scores.values["blocks.5.mlp.fc2.weight"])


def test_images_are_a_seeded_shuffle(data: Dataset) -> None:
    backbone = tiny()
    a, b, c = (importance(backbone, data.train, "fisher", images=16, seed=s).values for s in (0, 0, 1))
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(a[name], b[name])
    assert not torch.equal(a[name], c[name])


def test_a_failing_pass_leaves_the_model_alone(data: Dataset) -> None:
    backbone = tiny()
    before = state(backbone)

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importance(backbone, data.train, progress=stop, head=Head(torch.randn(3, 64), torch.zeros(3)))
    assert_unchanged(backbone, before)


def test_unknown_names_are_refused(data: Dataset) -> None:
    with pytest.raises(SelectionError, match="Did you mean gradient"):
        importance(tiny(), data.train, "gradeint")
    with pytest.raises(SelectionError, match="Did you mean product"):
        importance(tiny(), data.train, formula="produkt")
    with pytest.raises(SelectionError, match="Did you mean image"):
        importance(tiny(), data.train, expectation="images")  # type: ignore[arg-type]

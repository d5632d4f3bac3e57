"""Weight attribution: against dense autograd, complete, known where a model can be read, and nothing left behind."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shpeft.attribution import STEPS, STRENGTHS, attribute_weights, strength_curve
from shpeft.backbones import Backbone
from shpeft.delta import SparseDelta
from shpeft.errors import BaseMismatch, Cancelled, ClassMismatch, DeltaError, DiagnosisError
from shpeft.images import InputTransform
from shpeft.probe import Head
from shpeft.selection import Support
from shpeft.switching import Switchboard
from tests.conftest import assert_unchanged, state, tiny
from tests.test_gradients import random_delta

MODELS = ("test_vit", "test_convnext")


def picture(dtype: torch.dtype = torch.float32, size: int = 32) -> Tensor:
    return torch.randn(1, 3, size, size, dtype=dtype, generator=torch.Generator().manual_seed(3))


def strong_delta(backbone: Backbone, k: int, scope: str = "all") -> SparseDelta:
    """A delta that changes logits by much and not linearly."""
    delta = random_delta(backbone, k, scope)
    delta.values.mul_(20)
    return delta


def dense_integral(backbone: Backbone, delta: SparseDelta, image: Tensor, target: int, steps: int) -> Tensor:
    """The slow twin: every parameter's dense gradient at each node, with θ(t) written as a dense sum."""
    base = {name: backbone.parameters[name].detach().clone() for name in delta.support.indices}
    dense = {
        name: torch.zeros_like(base[name]).view(-1).index_put_((index,), v).view_as(base[name])
        for (name, index), v in zip(delta.support.indices.items(), delta.pieces().values(), strict=True)
    }
    found = torch.zeros(delta.k, dtype=torch.float64)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        t = (node + 1) / 2
        moved = {name: (base[name] + t * dense[name]).requires_grad_() for name in base}
        heads = {f"{backbone.head_name}.weight": delta.head.weight, f"{backbone.head_name}.bias": delta.head.bias}
        logit = torch.func.functional_call(backbone.module, moved | heads, (image,))[0, target]
        grads = torch.autograd.grad(logit, list(moved.values()))
        parts = [g.reshape(-1)[i] for g, i in zip(grads, delta.support.indices.values(), strict=True)]
        found += weight / 2 * torch.cat(parts)
    return found * delta.values


@pytest.mark.parametrize("scope", ["matrices", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_attributions_equal_dense_autograd_integration(name, scope):
    backbone = tiny(name, dtype=torch.float64)
    delta, image = strong_delta(backbone, 300, scope), picture(torch.float64)
    before = state(backbone)
    found = attribute_weights(backbone, delta, image, 1)
    expected = dense_integral(backbone, delta, image, 1, found.steps)
    assert (found.values - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert_unchanged(backbone, before)


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_add_up_to_the_change_of_the_logit(name):
    backbone = tiny(name, dtype=torch.float64)
    delta, image = strong_delta(backbone, 300), picture(torch.float64)
    start = Head.of(backbone)
    delta.head.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    delta.head.bias.fill_(0.5)
    found = attribute_weights(backbone, delta, image, 2, start=start, tolerance=1e-9)
    with torch.no_grad():
        before = backbone(image)[0, 2].item()
        with delta.applied(backbone):
            after = backbone(image)[0, 2].item()
    assert found.before == pytest.approx(before, abs=1e-12)
    assert found.after == after
    assert found.converged
    assert abs(found.head) > 0.1
    assert found.head + found.backbone == pytest.approx(after - before, abs=1e-9 * found.gross)
    assert abs(found.residual) <= 1e-9 * found.gross


def test_without_the_first_head_only_the_backbone_counts():
    backbone = tiny(dtype=torch.float64)
    delta, image = strong_delta(backbone, 100), picture(torch.float64)
    delta.head.weight.mul_(2)
    found = attribute_weights(backbone, delta, image, 0)
    assert found.head == 0
    with delta.applied(backbone, strength=0), torch.no_grad():
        assert found.before == backbone(image)[0, 0].item()
    with_start = attribute_weights(backbone, delta, image, 0, start=Head.of(backbone))
    assert torch.equal(found.values, with_start.values)


class Linear(nn.Module):
    """A linear layer on the pixels, and a linear head: its logits can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(3 * 4 * 4, 5), nn.Linear(5, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x.flatten(1)))


def test_a_linear_model_gives_each_weight_its_move_times_what_it_sees():
    torch.manual_seed(0)
    transform = InputTransform(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone = Backbone("linear", Linear().double(), ("a", "b"), transform, "made here")
    index = torch.tensor([0, 47, 50, 239])
    delta = SparseDelta.zeros(backbone, Support({"features.weight": index}, {"features.weight": (5, 48)}, 245))
    delta.values.copy_(torch.tensor([0.5, -1.0, 2.0, 0.25]))
    image = picture(torch.float64, 4)
    found = attribute_weights(backbone, delta, image, 1)
    rows, columns = index // 48, index % 48
    expected = delta.values * image.flatten()[columns] * backbone.head.weight[1, rows].detach()
    torch.testing.assert_close(found.values, expected, rtol=1e-12, atol=1e-14)
    assert found.steps == STEPS[0]
    assert [layer.total for layer in found.layers()] == [pytest.approx(expected.sum().item())]
    strongest = found.top(1)[0]
    j = int(expected.abs().argmax())
    assert strongest.place == (int(rows[j]), int(columns[j]))
    assert strongest.moved == delta.values[j].item()
    assert strongest.attribution == found.values[j].item()


def test_sums_over_layers_blocks_and_matrices_agree():
    backbone = tiny(dtype=torch.float64)
    delta = strong_delta(backbone, 500)
    found = attribute_weights(backbone, delta, picture(torch.float64), 1)
    layers = found.layers()
    assert [layer.name for layer in layers] == list(delta.support.indices)
    assert [layer.k for layer in layers] == list(delta.support.counts().values())
    assert sum(layer.gross for layer in layers) == pytest.approx(found.gross)
    for sums in (found.blocks(), found.matrices()):
        assert len(sums) > 1
        assert sum(sums.values()) == pytest.approx(found.backbone)
    some = layers[2]
    start = sum(layer.k for layer in layers[:2])
    assert some.total == pytest.approx(found.values[start : start + some.k].sum().item())
    top = found.top(10)
    sizes = [abs(weight.attribution) for weight in top]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes == found.values.abs().sort(descending=True).values[:10].tolist()


def test_a_sum_that_is_too_coarse_is_refined_and_says_when_it_may_not_be():
    backbone = tiny(dtype=torch.float64)
    delta, image = strong_delta(backbone, 2000), picture(torch.float64)
    coarse = attribute_weights(backbone, delta, image, 1, tolerance=1e-9, max_steps=4)
    assert (coarse.steps, coarse.passes, coarse.converged) == (4, 4, False)
    fine = attribute_weights(backbone, delta, image, 1, tolerance=1e-9)
    assert fine.converged
    assert fine.steps > 4
    assert fine.passes == 2 * fine.steps - 4
    assert abs(fine.residual) < abs(coarse.residual)


def test_float32_reaches_the_default_tolerance():
    backbone = tiny()
    delta = strong_delta(backbone, 500)
    found = attribute_weights(backbone, delta, picture(), 1)
    assert found.converged
    assert found.relative_residual <= 1e-3
    assert abs(found.residual) <= 1e-3 * found.gross


def test_a_delta_that_moves_nothing_is_attributed_nothing(vit):
    delta = SparseDelta.zeros(vit, random_delta(vit, 20).support)
    found = attribute_weights(vit, delta, picture(), 0)
    assert not found.values.any()
    assert found.change == found.residual == 0
    assert found.converged


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called_and_repeats_itself(vit, context):
    delta = random_delta(vit, 50)
    outside = attribute_weights(vit, delta, picture(), 0).values
    with context():
        assert torch.equal(attribute_weights(vit, delta, picture(), 0).values, outside)


def test_cancelling_leaves_nothing_behind(vit):
    delta, before = random_delta(vit, 50, "all"), state(vit)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        attribute_weights(vit, delta, picture(), 0, progress=stop)
    with pytest.raises(Cancelled):
        strength_curve(vit, delta, picture(), progress=stop)
    assert_unchanged(vit, before)
    assert not vit.occupied
    assert all(p.requires_grad for p in vit.module.parameters())


def test_probabilities_follow_the_strength_to_the_bit(vit):
    delta, before = strong_delta(vit, 300), state(vit)
    curve = strength_curve(vit, delta, picture())
    assert curve.strengths == STRENGTHS
    for strength in (0.0, 0.5, 1.0, 1.5):
        with delta.applied(vit, strength), torch.no_grad():
            expected = vit(picture())[0].double().softmax(0).tolist()
        assert list(curve.at(strength).values()) == expected
        assert tuple(curve.at(strength)) == vit.classes
    assert len(set(curve.probabilities)) == len(STRENGTHS)
    assert_unchanged(vit, before)


def test_what_cannot_be_attributed_is_a_sentence(vit):
    delta = random_delta(vit, 20)
    with pytest.raises(DiagnosisError, match="Target 3 is no class: the delta has 3"):
        attribute_weights(vit, delta, picture(), 3)
    with pytest.raises(DiagnosisError, match=r"shape \(1, 3, 32, 32\) is needed; found \(2, 3, 32, 32\)"):
        attribute_weights(vit, delta, torch.zeros(2, 3, 32, 32), 0)
    with pytest.raises(DiagnosisError, match="At least 4 steps are needed; 3"):
        attribute_weights(vit, delta, picture(), 0, max_steps=3)
    with pytest.raises(DiagnosisError, match="not a number"):
        attribute_weights(vit, delta, torch.full((1, 3, 32, 32), torch.nan), 0)
    with pytest.raises(BaseMismatch):
        attribute_weights(tiny("test_convnext"), delta, picture(), 0)
    with Switchboard(vit, {"delta": delta}), pytest.raises(DeltaError, match="Another delta"):
        attribute_weights(vit, delta, picture(), 0)
    vit.replace_head(nn.Linear(vit.head.in_features, 2), ("a", "b"))
    with pytest.raises(ClassMismatch):
        attribute_weights(vit, delta, picture(), 0)

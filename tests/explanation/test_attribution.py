"""Weight attribution against dense autograd, for completeness, on a linear model, and without side effects."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.switchboard import Switchboard
from shpeft.errors import BaseMismatch, Cancelled, ClassMismatch, DeltaError, DiagnosisError
from shpeft.evaluation.temperature import calibrate
from shpeft.explanation.attribution import STEPS, STRENGTHS, attribute_weights, strength_curve
from shpeft.images import InputTransform
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.deltas import random_delta

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
    attribution = torch.zeros(delta.k, dtype=torch.float64)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        t = (node + 1) / 2
        moved = {name: (base[name] + t * dense[name]).requires_grad_() for name in base}
        heads = {f"{backbone.head_name}.weight": delta.head.weight, f"{backbone.head_name}.bias": delta.head.bias}
        logit = torch.func.functional_call(backbone.module, moved | heads, (image,))[0, target]
        grads = torch.autograd.grad(logit, list(moved.values()))
        parts = [g.reshape(-1)[i] for g, i in zip(grads, delta.support.indices.values(), strict=True)]
        attribution += weight / 2 * torch.cat(parts)
    return attribution * delta.values


@pytest.mark.parametrize("scope", ["matrices", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_attributions_equal_dense_autograd_integration(name: str, scope: str) -> None:
    backbone = tiny(name, dtype=torch.float64)
    delta, image = strong_delta(backbone, 300, scope), picture(torch.float64)
    before = state(backbone)
    attribution = attribute_weights(backbone, delta, image, 1)
    expected = dense_integral(backbone, delta, image, 1, attribution.steps)
    assert (attribution.values - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert_unchanged(backbone, before)


@pytest.mark.parametrize("name", MODELS)
def test_attributions_sum_to_the_change_of_the_logit(name: str) -> None:
    backbone = tiny(name, dtype=torch.float64)
    delta, image = strong_delta(backbone, 300), picture(torch.float64)
    initial_head = Head.of(backbone)
    delta.head.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    delta.head.bias.fill_(0.5)
    attribution = attribute_weights(backbone, delta, image, 2, initial_head=initial_head, tolerance=1e-9)
    with torch.no_grad():
        before = backbone(image)[0, 2].item()
        with delta.applied(backbone):
            after = backbone(image)[0, 2].item()
    assert attribution.before == pytest.approx(before, abs=1e-12)
    assert attribution.after == after
    assert attribution.converged
    assert abs(attribution.head) > 0.1
    assert attribution.head + attribution.backbone == pytest.approx(after - before, abs=1e-9 * attribution.gross)
    assert abs(attribution.residual) <= 1e-9 * attribution.gross


def test_without_the_initial_head_only_the_backbone_is_attributed() -> None:
    backbone = tiny(dtype=torch.float64)
    delta, image = strong_delta(backbone, 100), picture(torch.float64)
    delta.head.weight.mul_(2)
    attribution = attribute_weights(backbone, delta, image, 0)
    assert attribution.head == 0
    with delta.applied(backbone, strength=0), torch.no_grad():
        assert attribution.before == backbone(image)[0, 0].item()
    with_start = attribute_weights(backbone, delta, image, 0, initial_head=Head.of(backbone))
    assert torch.equal(attribution.values, with_start.values)


class Linear(nn.Module):
    """A linear layer on the pixels, and a linear head: its logits can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(3 * 4 * 4, 5), nn.Linear(5, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x.flatten(1)))
        return logits


def test_linear_model_attributes_delta_times_input() -> None:
    torch.manual_seed(0)
    transform = InputTransform(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone = Backbone("linear", Linear().double(), ("a", "b"), transform, "made here")
    index = torch.tensor([0, 47, 50, 239])
    delta = SparseDelta.zeros(backbone, Support({"features.weight": index}, {"features.weight": (5, 48)}, 245))
    delta.values.copy_(torch.tensor([0.5, -1.0, 2.0, 0.25]))
    image = picture(torch.float64, 4)
    attribution = attribute_weights(backbone, delta, image, 1)
    rows, columns = index // 48, index % 48
    expected = delta.values * image.flatten()[columns] * backbone.head.weight[1, rows].detach()
    torch.testing.assert_close(attribution.values, expected, rtol=1e-12, atol=1e-14)
    assert attribution.steps == STEPS[0]
    assert [layer.total for layer in attribution.layers()] == [pytest.approx(expected.sum().item())]
    strongest = attribution.top(1)[0]
    j = int(expected.abs().argmax())
    assert strongest.position == (int(rows[j]), int(columns[j]))
    assert strongest.delta == delta.values[j].item()
    assert strongest.attribution == attribution.values[j].item()


def test_sums_over_layers_blocks_and_matrices_agree() -> None:
    backbone = tiny(dtype=torch.float64)
    delta = strong_delta(backbone, 500)
    attribution = attribute_weights(backbone, delta, picture(torch.float64), 1)
    layers = attribution.layers()
    assert [layer.name for layer in layers] == list(delta.support.indices)
    assert [layer.k for layer in layers] == list(delta.support.counts().values())
    assert sum(layer.gross for layer in layers) == pytest.approx(attribution.gross)
    for sums in (attribution.blocks(), attribution.matrices()):
        assert len(sums) > 1
        assert sum(sums.values()) == pytest.approx(attribution.backbone)
    some = layers[2]
    offset = sum(layer.k for layer in layers[:2])
    assert some.total == pytest.approx(attribution.values[offset : offset + some.k].sum().item())
    top = attribution.top(10)
    sizes = [abs(weight.attribution) for weight in top]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes == attribution.values.abs().sort(descending=True).values[:10].tolist()


def test_coarse_sums_are_refined_until_converged() -> None:
    backbone = tiny(dtype=torch.float64)
    delta, image = strong_delta(backbone, 2000), picture(torch.float64)
    coarse = attribute_weights(backbone, delta, image, 1, tolerance=1e-9, max_steps=4)
    assert (coarse.steps, coarse.passes, coarse.converged) == (4, 4, False)
    fine = attribute_weights(backbone, delta, image, 1, tolerance=1e-9)
    assert fine.converged
    assert fine.steps > 4
    assert fine.passes == 2 * fine.steps - 4
    assert abs(fine.residual) < abs(coarse.residual)


def test_float32_reaches_the_default_tolerance() -> None:
    backbone = tiny()
    delta = strong_delta(backbone, 500)
    attribution = attribute_weights(backbone, delta, picture(), 1)
    assert attribution.converged
    assert attribution.relative_residual <= 1e-3
    assert abs(attribution.residual) <= 1e-3 * attribution.gross


def test_zero_delta_has_zero_attribution(vit: Backbone) -> None:
    delta = SparseDelta.zeros(vit, random_delta(vit, 20).support)
    attribution = attribute_weights(vit, delta, picture(), 0)
    assert not attribution.values.any()
    assert attribution.change == attribution.residual == 0
    assert attribution.converged


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_result_does_not_depend_on_the_gradient_mode(
    vit: Backbone, context: Callable[[], AbstractContextManager[object]]
) -> None:
    delta = random_delta(vit, 50)
    outside = attribute_weights(vit, delta, picture(), 0).values
    with context():
        assert torch.equal(attribute_weights(vit, delta, picture(), 0).values, outside)


def test_cancellation_restores_the_model(vit: Backbone) -> None:
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


def test_strength_curve_equals_the_applied_delta_bit_for_bit(vit: Backbone) -> None:
    delta, before = strong_delta(vit, 300), state(vit)
    curve = strength_curve(vit, delta, picture())
    assert curve.strengths == STRENGTHS
    for strength in (0.0, 0.5, 1.0, 1.5):
        with delta.applied(vit, strength), torch.no_grad():
            expected = vit(picture())[0].double().softmax(0).tolist()
        assert list(curve.at(strength).values()) == expected
        assert tuple(curve.at(strength)) == vit.classes
        assert (
            curve.of(vit.classes[1])[STRENGTHS.index(strength)] == curve.of(1)[STRENGTHS.index(strength)] == expected[1]
        )
    assert len(set(curve.probabilities)) == len(STRENGTHS)
    assert_unchanged(vit, before)


def test_strength_curve_is_calibrated_with_a_temperature(vit: Backbone) -> None:
    delta = strong_delta(vit, 300)
    own, scaled = strength_curve(vit, delta, picture()), strength_curve(vit, delta, picture(), temperature=2.5)
    assert (own.calibrated, scaled.calibrated) == (False, True)
    for row, expected in zip(scaled.probabilities, own.probabilities, strict=True):
        assert list(row) == calibrate(np.array(expected), 2.5).tolist()


def test_invalid_attributions_are_refused(vit: Backbone) -> None:
    delta = random_delta(vit, 20)
    with pytest.raises(DiagnosisError, match=r"target index 3 is out of range\. Give an index from 0 to 2"):
        attribute_weights(vit, delta, picture(), 3)
    with pytest.raises(DiagnosisError, match=r"shape \(1, 3, 32, 32\); found \(2, 3, 32, 32\)"):
        attribute_weights(vit, delta, torch.zeros(2, 3, 32, 32), 0)
    with pytest.raises(DiagnosisError, match="max_steps is 3; at least 4"):
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

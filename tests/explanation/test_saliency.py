"""Saliency on models with known answers, without side effects on the model or the random state."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.explanation.saliency import HUE, METHODS, explain, full_scale, normalize, opacity_map, overlay
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.readable_model import SIZE, Corner, Crossed, Network, Square, readable

RANDOM = ("smoothgrad", "gradient_shap")


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))


def weight(backbone: Backbone, target: int) -> Tensor:
    return backbone.head.weight[target].detach().view(3, SIZE, SIZE)


def assert_map(result: np.ndarray, expected: Tensor, rtol: float = 1e-4) -> None:
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.detach().numpy(), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad"])
def test_the_gradient_of_a_linear_model_is_its_weights(image: Tensor, method: str) -> None:
    backbone = readable(nn.Identity())
    assert_map(explain(backbone, image, 1, method).map, weight(backbone, 1).abs().sum(0))


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_a_linear_model_gives_each_pixel_its_term(image: Tensor, method: str) -> None:
    backbone = readable(nn.Identity())
    assert_map(explain(backbone, image, 0, method).map, (weight(backbone, 0) * image[0]).abs().sum(0))


def test_integrated_gradients_of_squares_are_the_squares(image: Tensor) -> None:
    backbone = readable(Square())
    result = explain(backbone, image, 1, "integrated_gradients")
    assert_map(result.map, (weight(backbone, 1) * image[0] ** 2).abs().sum(0))
    assert result.residual is not None
    assert result.residual < 1e-4


def test_gradient_shap_is_complete_and_centered_on_a_linear_model(image: Tensor) -> None:
    backbone = readable(nn.Identity())
    result = explain(backbone, image, 1, "gradient_shap")
    assert result.residual is not None
    assert result.residual < 1e-4
    expected = (weight(backbone, 1) * image[0]).abs().sum(0).numpy()
    assert np.corrcoef(result.map.ravel(), expected.ravel())[0, 1] > 0.9


def test_occlusion_is_the_change_of_the_logit_in_the_covered_squares(image: Tensor) -> None:
    backbone = readable(nn.Identity())
    terms = (weight(backbone, 1) * image[0]).sum(0).detach()
    side = SIZE // 8  # windows of 2 pixels that move by 1: a pixel's value is the mean over the windows that cover it
    changes = terms.unfold(0, side, 1).unfold(1, side, 1).sum((2, 3))
    result = explain(backbone, image, 1, "occlusion").map
    assert result[0, 0] == pytest.approx(abs(changes[0, 0].item()), rel=1e-4)
    assert result[5, 9] == pytest.approx(abs(changes[4:6, 8:10].mean().item()), rel=1e-4)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("grad_cam", "legrad")])
def test_a_model_that_sees_one_quarter_is_explained_by_that_quarter(image: Tensor, method: str) -> None:
    result = explain(readable(Corner()), image, 0, method).map
    half = SIZE // 2
    assert result[:half, :half].min() > 1e-6
    reach = 1 if method == "occlusion" else 0  # a window may lie half inside
    assert result[half + reach :].max() < 1e-6
    assert result[:, half + reach :].max() < 1e-6


@pytest.mark.parametrize("last", [False, True])
def test_grad_cam_of_a_pooled_map_is_the_weighted_map(image: Tensor, last: bool) -> None:
    channels_first = nn.Conv2d(3, 5, 4, 4)

    class Last(Network):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.forward_features(x).mean((1, 2)))
            return logits

    backbone = readable(channels_first, width=5, pooled=True)
    if last:
        network = Last(nn.Sequential(channels_first, Crossed()), 5)
        network.head = backbone.head
        backbone = Backbone("last", network, ("a", "b"), backbone.transform, "made here")
    activations = channels_first(image)
    coarse = (backbone.head.weight[1].view(5, 1, 1) * activations[0] / 16).sum(0).relu()
    expected = nn.functional.interpolate(coarse[None, None], size=(SIZE, SIZE), mode="bilinear")[0, 0]
    assert_map(explain(backbone, image, 1, "grad_cam").map, expected)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_grad_cam_of_a_transformer_finds_the_patches(pool: str) -> None:
    backbone = tiny()
    module: Any = backbone.module
    module.reset_classifier(3, global_pool=pool)
    backbone = Backbone("vit", module, CLASSES, backbone.transform, "random")
    assert module.num_prefix_tokens > 0
    nn.init.normal_(backbone.head.weight)
    bright = torch.zeros(1, 3, 32, 32)
    bright[..., 16:, :16] = 4
    maps = [explain(backbone, bright, target, "grad_cam").map for target in range(3)]
    assert max(result.max() for result in maps) > 0
    peaks = {np.unravel_index(int(result.argmax()), result.shape) for result in maps if result.max() > 0}
    assert any(row >= 16 and column < 16 for row, column in peaks)


def test_grad_cam_needs_spatial_positions(image: Tensor) -> None:
    backbone = readable(nn.Identity())
    module: Any = backbone.module
    module.forward_features = lambda x: x.flatten(1)
    with pytest.raises(DiagnosisError, match=r"spatial positions; readable has none\. Choose another method"):
        explain(backbone, image, 0, "grad_cam")


@pytest.mark.parametrize(
    ("name", "method"), [("test_vit", m) for m in METHODS] + [("test_convnext", m) for m in METHODS if m != "legrad"]
)
def test_model_and_random_state_are_restored(name: str, method: str) -> None:
    backbone = tiny(name)
    first = next(backbone.module.parameters())
    first.requires_grad_(False)
    last_child = list(backbone.module.children())[-1].train()
    before, flags = state(backbone), [p.requires_grad for p in backbone.module.parameters()]
    torch_rng, numpy_rng = torch.get_rng_state(), np.random.get_state(legacy=False)
    result = explain(backbone, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 2, method)
    assert result.map.shape == (32, 32)
    assert result.map.min() >= 0
    assert_unchanged(backbone, before)
    assert [p.requires_grad for p in backbone.module.parameters()] == flags
    assert [m for m in backbone.module.modules() if m.training] == list(last_child.modules())
    assert torch.equal(torch.get_rng_state(), torch_rng)
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_rng)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion", "grad_cam"])
def test_cancellation_restores_model_and_random_state(vit: Backbone, method: str) -> None:
    before, torch_rng, calls = state(vit), torch.get_rng_state(), []

    def stop(stage: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) > 1 or method == "grad_cam":
            raise Cancelled

    with pytest.raises(Cancelled):
        explain(vit, torch.ones(1, 3, 32, 32), 0, method, progress=stop)
    assert_unchanged(vit, before)
    assert all(p.requires_grad for p in vit.module.parameters())
    assert torch.equal(torch.get_rng_state(), torch_rng)


def test_existing_gradients_are_preserved(vit: Backbone) -> None:
    parameter = next(iter(vit.module.parameters()))
    parameter.grad = torch.ones_like(parameter)
    explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency")
    assert torch.equal(parameter.grad, torch.ones_like(parameter))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_map(vit: Backbone, method: str) -> None:
    x = torch.linspace(-2, 2, 3 * 32 * 32).view(1, 3, 32, 32)
    a, b, c = (explain(vit, x, 1, method, seed=seed).map for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert np.array_equal(a, c) == (method not in RANDOM)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_map_does_not_depend_on_the_gradient_mode(
    vit: Backbone, context: Callable[[], AbstractContextManager[object]]
) -> None:
    outside = explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency").map
    with context():
        inside = explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency").map
    assert np.array_equal(inside, outside)


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_at_the_announced_cost(vit: Backbone, method: str) -> None:
    seen, passed = [], []
    vit.module.register_forward_hook(lambda _, args, out: passed.append(len(out)))
    explain(vit, torch.ones(1, 3, 32, 32), 0, method, progress=lambda stage, done, total: seen.append((done, total)))
    assert seen[-1] == (METHODS[method].cost, METHODS[method].cost)
    assert seen == sorted(seen)
    assert sum(passed) == METHODS[method].cost - (method == "grad_cam")  # whose first pass ends before the head


def test_integrated_gradients_of_a_transformer_leave_less_than_two_percent(vit: Backbone) -> None:
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    residual = explain(vit, x, 0, "integrated_gradients").residual
    assert residual is not None
    assert residual < 0.02


def test_target_is_a_name_or_an_index(vit: Backbone) -> None:
    x = torch.linspace(-2, 2, 3 * 32 * 32).view(1, 3, 32, 32)
    by_name, by_index = (explain(vit, x, target, "saliency") for target in (vit.classes[1], 1))
    assert by_name.target == by_index.target == 1
    assert np.array_equal(by_name.map, by_index.map)
    with pytest.raises(DiagnosisError, match=r"no class 'lef'.*left"):
        explain(vit, x, "lef", "saliency")


def test_invalid_explanations_are_refused(vit: Backbone) -> None:
    with pytest.raises(DiagnosisError, match=r"no saliency method 'integrated_gradient'.*integrated_gradients"):
        explain(vit, torch.ones(1, 3, 32, 32), 0, "integrated_gradient")
    with pytest.raises(DiagnosisError, match=r"target index 3 is out of range\. Give an index from 0 to 2"):
        explain(vit, torch.ones(1, 3, 32, 32), 3, "saliency")
    with pytest.raises(DiagnosisError, match=r"shape \(1, 3, S, S\); found \(2, 3, 32, 32\)"):
        explain(vit, torch.ones(2, 3, 32, 32), 0, "saliency")
    with pytest.raises(DiagnosisError, match="not numbers"):
        explain(vit, torch.full((1, 3, 32, 32), torch.nan), 0, "saliency")


def test_normalize_clips_at_the_99th_percentile_and_keeps_zero() -> None:
    values = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    assert full_scale(values) == pytest.approx(9899.01)
    result = normalize(values)
    assert result.dtype == np.float32
    assert result.flat[0] == 0
    assert result.flat[9899:].min() == pytest.approx(1, abs=1e-4)
    assert result.flat[5000] == pytest.approx(5000 / 9899.01)
    assert not normalize(np.zeros((4, 4), np.float32)).any()
    lone = np.zeros((100, 100), np.float32)
    lone[3, 3] = 5
    assert normalize(lone).max() == 1


@pytest.fixture
def scan() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8))


def test_an_overlay_of_no_opacity_is_the_image_bit_for_bit(scan: Image.Image) -> None:
    assert overlay(scan, np.ones((16, 16), np.float32), 0).tobytes() == scan.tobytes()
    gray = scan.convert("L")
    assert overlay(gray, np.ones((16, 16), np.float32), 0).tobytes() == gray.tobytes()


def test_overlay_has_the_image_size_and_colors_only_the_map(scan: Image.Image) -> None:
    values = np.zeros((16, 16), np.float32)
    values[:8, :8] = 1
    result = np.asarray(overlay(scan, values, 1.0))
    assert result.shape == (50, 70, 3)
    assert (result[:20, :30] == HUE).all()
    assert np.array_equal(result[30:, 42:], np.asarray(scan)[30:, 42:])
    half = np.asarray(overlay(scan, values, 0.5)).astype(int)
    assert abs(half[:20, :30] - (np.asarray(scan)[:20, :30].astype(int) + HUE) / 2).max() <= 0.5


def test_low_values_are_transparent_and_opacity_grows_with_the_map() -> None:
    ramp = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (80, 1))
    drawn = opacity_map(ramp, (160, 120))
    assert drawn.shape == (120, 160)
    assert drawn.dtype == np.float32
    assert (drawn[:, : int(0.25 * 160)] == 0).all()  # below the threshold of 0.3
    assert (np.diff(drawn[60]) >= -1e-6).all()
    assert drawn[:, -1].min() == 1
    assert not opacity_map(np.zeros((8, 8), np.float32)).any()


def test_a_single_pixel_is_drawn_smooth() -> None:
    lone = np.zeros((80, 80), np.float32)
    lone[40, 40] = 3
    drawn = opacity_map(lone)
    assert drawn[40, 40] == drawn.max()
    assert 0 < drawn[40, 41] <= drawn[40, 40]
    assert drawn[:30].max() == drawn[:, :30].max() == 0


def test_opacity_out_of_range_is_refused(scan: Image.Image) -> None:
    with pytest.raises(DiagnosisError, match=r"between 0 and 1; 1\.5"):
        overlay(scan, np.ones((4, 4), np.float32), 1.5)

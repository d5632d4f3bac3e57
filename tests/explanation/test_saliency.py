"""Saliency: known answers on models that can be read, and nothing left behind in the model."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.images import InputTransform
from shpeft.saliency import HUE, METHODS, ceiling, explain, normalised, overlay
from tests.conftest import CLASSES, assert_unchanged, state, tiny

SIZE = 16
RANDOM = ("smoothgrad", "gradient_shap")


class Network(nn.Module):
    """A feature map, its mean over places (or all of it), and a linear head; nothing else."""

    def __init__(self, features: nn.Module, width: int, pooled: bool = True):
        super().__init__()
        self.features, self.pooled, self.head = features, pooled, nn.Linear(width, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.forward_features(x)
        return self.head(x.mean((2, 3)) if self.pooled else x.flatten(1))


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x**2


class Corner(nn.Module):
    """Sees the upper left quarter of the image only."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros_like(x)
        seen[..., : SIZE // 2, : SIZE // 2] = 1
        return torch.tanh(x * seen)


class Crossed(nn.Module):
    """Channels last, as Swin's maps are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def readable(features: nn.Module, width: int = 3 * SIZE * SIZE, pooled: bool = False, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    transform = InputTransform(SIZE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("readable", Network(features, width, pooled), ("a", "b"), transform, "made here")


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))


def weight(backbone: Backbone, target: int) -> Tensor:
    return backbone.head.weight[target].detach().view(3, SIZE, SIZE)


def assert_map(found: np.ndarray, expected: Tensor, rtol: float = 1e-4) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad"])
def test_the_gradient_of_a_linear_model_is_its_weights(image, method):
    backbone = readable(nn.Identity())
    assert_map(explain(backbone, image, 1, method).map, weight(backbone, 1).abs().sum(0))


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_a_linear_model_gives_each_pixel_its_term(image, method):
    backbone = readable(nn.Identity())
    assert_map(explain(backbone, image, 0, method).map, (weight(backbone, 0) * image[0]).abs().sum(0))


def test_integrated_gradients_of_squares_are_the_squares(image):
    backbone = readable(Square())
    found = explain(backbone, image, 1, "integrated_gradients")
    assert_map(found.map, (weight(backbone, 1) * image[0] ** 2).abs().sum(0))
    assert found.residual is not None
    assert found.residual < 1e-4


def test_gradient_shap_is_complete_on_a_linear_model_and_centred_on_its_terms(image):
    backbone = readable(nn.Identity())
    found = explain(backbone, image, 1, "gradient_shap")
    assert found.residual is not None
    assert found.residual < 1e-4
    expected = (weight(backbone, 1) * image[0]).abs().sum(0).numpy()
    assert np.corrcoef(found.map.ravel(), expected.ravel())[0, 1] > 0.9


def test_occlusion_is_the_change_of_the_logit_in_the_covered_squares(image):
    backbone = readable(nn.Identity())
    terms = (weight(backbone, 1) * image[0]).sum(0).detach()
    side = SIZE // 8  # windows of 2 pixels that move by 1: a pixel's value is the mean over the windows that cover it
    changes = terms.unfold(0, side, 1).unfold(1, side, 1).sum((2, 3))
    found = explain(backbone, image, 1, "occlusion").map
    assert found[0, 0] == pytest.approx(abs(changes[0, 0].item()), rel=1e-4)
    assert found[5, 9] == pytest.approx(abs(changes[4:6, 8:10].mean().item()), rel=1e-4)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "grad_cam"])
def test_a_model_that_sees_one_quarter_is_explained_by_that_quarter(image, method):
    found = explain(readable(Corner()), image, 0, method).map
    half = SIZE // 2
    assert found[:half, :half].min() > 1e-6
    reach = 1 if method == "occlusion" else 0  # a window may lie half inside
    assert found[half + reach :].max() < 1e-6
    assert found[:, half + reach :].max() < 1e-6


@pytest.mark.parametrize("last", [False, True])
def test_grad_cam_of_a_pooled_map_is_the_weighted_map(image, last):
    channels_first = nn.Conv2d(3, 5, 4, 4)

    class Last(Network):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.forward_features(x).mean((1, 2)))

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
def test_grad_cam_of_a_transformer_finds_the_patches(pool):
    backbone = tiny()
    backbone.module.reset_classifier(3, global_pool=pool)
    backbone = Backbone("vit", backbone.module, CLASSES, backbone.transform, "random")
    assert backbone.module.num_prefix_tokens > 0
    nn.init.normal_(backbone.head.weight)
    bright = torch.zeros(1, 3, 32, 32)
    bright[..., 16:, :16] = 4
    maps = [explain(backbone, bright, target, "grad_cam").map for target in range(3)]
    assert max(found.max() for found in maps) > 0
    peaks = {np.unravel_index(int(found.argmax()), found.shape) for found in maps if found.max() > 0}
    assert any(row >= 16 and column < 16 for row, column in peaks)


def test_grad_cam_says_when_a_model_keeps_no_places(image):
    backbone = readable(nn.Identity())
    backbone.module.forward_features = lambda x: x.flatten(1)
    with pytest.raises(DiagnosisError, match=r"keeps places apart\. Choose another method"):
        explain(backbone, image, 0, "grad_cam")


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_random_numbers_are_left_as_they_were(name, method):
    backbone = tiny(name)
    first = next(backbone.module.parameters())
    first.requires_grad_(False)
    last_child = list(backbone.module.children())[-1].train()
    before, flags = state(backbone), [p.requires_grad for p in backbone.module.parameters()]
    torch_rng, numpy_rng = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = explain(backbone, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 2, method)
    assert found.map.shape == (32, 32)
    assert found.map.min() >= 0
    assert_unchanged(backbone, before)
    assert [p.requires_grad for p in backbone.module.parameters()] == flags
    assert [m for m in backbone.module.modules() if m.training] == list(last_child.modules())
    assert torch.equal(torch.get_rng_state(), torch_rng)
    assert np.array_equal(np.random.get_state()[1], numpy_rng)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion", "grad_cam"])
def test_cancelling_in_the_middle_leaves_nothing_behind(vit, method):
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


def test_a_gradient_that_was_there_is_kept(vit):
    parameter = next(iter(vit.module.parameters()))
    parameter.grad = torch.ones_like(parameter)
    explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency")
    assert torch.equal(parameter.grad, torch.ones_like(parameter))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_map(vit, method):
    x = torch.linspace(-2, 2, 3 * 32 * 32).view(1, 3, 32, 32)
    a, b, c = (explain(vit, x, 1, method, seed=seed).map for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert np.array_equal(a, c) == (method not in RANDOM)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_wherever_it_is_called(vit, context):
    outside = explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency").map
    with context():
        inside = explain(vit, torch.ones(1, 3, 32, 32), 0, "saliency").map
    assert np.array_equal(inside, outside)


@pytest.mark.parametrize("method", METHODS)
def test_progress_ends_at_the_announced_cost(vit, method):
    seen, passed = [], []
    vit.module.register_forward_hook(lambda _, args, out: passed.append(len(out)))
    explain(vit, torch.ones(1, 3, 32, 32), 0, method, progress=lambda stage, done, total: seen.append((done, total)))
    assert seen[-1] == (METHODS[method].cost, METHODS[method].cost)
    assert seen == sorted(seen)
    assert sum(passed) == METHODS[method].cost - (method == "grad_cam")  # whose first pass ends before the head


def test_integrated_gradients_of_a_transformer_leave_less_than_two_percent(vit):
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    residual = explain(vit, x, 0, "integrated_gradients").residual
    assert residual is not None
    assert residual < 0.02


def test_what_cannot_be_explained_is_a_sentence(vit):
    with pytest.raises(DiagnosisError, match=r"no saliency method 'integrated_gradient'.*integrated_gradients"):
        explain(vit, torch.ones(1, 3, 32, 32), 0, "integrated_gradient")
    with pytest.raises(DiagnosisError, match="Target 3 is no class: the backbone has 3"):
        explain(vit, torch.ones(1, 3, 32, 32), 3, "saliency")
    with pytest.raises(DiagnosisError, match=r"shape \(1, 3, S, S\); found \(2, 3, 32, 32\)"):
        explain(vit, torch.ones(2, 3, 32, 32), 0, "saliency")
    with pytest.raises(DiagnosisError, match="not numbers"):
        explain(vit, torch.full((1, 3, 32, 32), torch.nan), 0, "saliency")


def test_normalised_clips_at_the_99th_percentile_and_keeps_zero():
    values = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    assert ceiling(values) == pytest.approx(9899.01)
    found = normalised(values)
    assert found.dtype == np.float32
    assert found.flat[0] == 0
    assert found.flat[9899:].min() == pytest.approx(1, abs=1e-4)
    assert found.flat[5000] == pytest.approx(5000 / 9899.01)
    assert not normalised(np.zeros((4, 4), np.float32)).any()
    lone = np.zeros((100, 100), np.float32)
    lone[3, 3] = 5
    assert normalised(lone).max() == 1


@pytest.fixture
def scan() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8))


def test_an_overlay_of_no_opacity_is_the_image_bit_for_bit(scan):
    assert overlay(scan, np.ones((16, 16), np.float32), 0).tobytes() == scan.tobytes()
    grey = scan.convert("L")
    assert overlay(grey, np.ones((16, 16), np.float32), 0).tobytes() == grey.tobytes()


def test_an_overlay_has_the_images_size_and_colours_only_where_the_map_is(scan):
    values = np.zeros((16, 16), np.float32)
    values[:8, :8] = 1
    found = np.asarray(overlay(scan, values, 1.0))
    assert found.shape == (50, 70, 3)
    assert (found[:20, :30] == HUE).all()
    assert np.array_equal(found[30:, 42:], np.asarray(scan)[30:, 42:])
    half = np.asarray(overlay(scan, values, 0.5)).astype(int)
    assert abs(half[:20, :30] - (np.asarray(scan)[:20, :30].astype(int) + HUE) / 2).max() <= 0.5


def test_an_opacity_outside_its_range_is_a_sentence(scan):
    with pytest.raises(DiagnosisError, match=r"between 0 and 1; 1\.5"):
        overlay(scan, np.ones((4, 4), np.float32), 1.5)

"""The exactness of sparse gradients, against dense autograd."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft import gradients, kernels
from shpeft.backbones import Backbone, create_backbone
from shpeft.delta import SparseDelta
from shpeft.importance import Scores
from shpeft.selection import Support, select
from shpeft.trainable import Trainable

from .conftest import CLASSES, assert_unchanged, state, tiny

MODELS = ("test_vit", "test_convnext", "test_resnet", "test_efficientnet")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def random_delta(backbone: Backbone, k: int, scope: str = "matrices", seed: int = 0) -> SparseDelta:
    generator = torch.Generator().manual_seed(seed)
    infos = backbone.weight_infos(scope)
    values = {info.name: torch.rand(info.shape, generator=generator) for info in infos}
    delta = SparseDelta.zeros(backbone, select(Scores("random", values, infos, backbone.count), k))
    delta.values.normal_(std=0.01, generator=generator)
    return delta


def dense_gradient(backbone: Backbone, delta: SparseDelta, images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow twin: every parameter's dense gradient, then the support's entries."""
    with delta.applied(backbone):
        loss = cross_entropy(backbone(images), labels)
        parameters = backbone.parameters
        names = [*delta.support.indices, f"{backbone.head_name}.weight"]
        grads = torch.autograd.grad(loss, [parameters[name] for name in names])
    picked = [g.reshape(-1)[i] for g, i in zip(grads[:-1], delta.support.indices.values(), strict=True)]
    return torch.cat(picked), grads[-1]


def sparse_gradient(backbone: Backbone, delta: SparseDelta, images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(images), labels).backward()
        return trainable.values.grad.clone(), backbone.head.weight.grad.clone()


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Relative to the largest entry: single entries may cancel to nothing."""
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-30)


@pytest.fixture(params=[1, 2])
def threads(request):
    """However many threads the tests have: products are shared out among them in other ways."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scope", ["matrices", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_dense_autograd(name, scope, dtype):
    backbone = tiny(name, dtype=dtype)
    torch.manual_seed(1)
    images, labels = torch.randn(3, 3, 32, 32, dtype=dtype), torch.tensor([0, 1, 2])
    before = state(backbone)
    for k in (1, 40, 3000, 20_000):
        delta = random_delta(backbone, k, scope)
        expected, expected_head = dense_gradient(backbone, delta, images, labels)
        found, found_head = sparse_gradient(backbone, delta, images, labels)
        assert found.shape == (k,)
        assert_close(found, expected, TOLERANCE[dtype])
        assert_close(found_head, expected_head, TOLERANCE[dtype])
    assert_unchanged(backbone, before)


def test_a_batch_of_one_and_all_weights_of_a_layer():
    backbone = tiny(dtype=torch.float64)
    info = next(i for i in backbone.weight_infos("matrices") if i.matrix == "attn.qkv.weight")
    support = Support({info.name: torch.arange(info.numel)}, {info.name: info.shape}, backbone.count)
    delta = SparseDelta.zeros(backbone, support)
    images, labels = torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([2])
    expected, _ = dense_gradient(backbone, delta, images, labels)
    found, _ = sparse_gradient(backbone, delta, images, labels)
    assert_close(found, expected, 1e-10)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kernel", kernels.KERNELS)
@pytest.mark.parametrize("k", [1, 2, 7, 48])
def test_every_kernel_is_exact_in_chunks_and_on_non_contiguous_inputs(monkeypatch, kernel, k):
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 50)
    torch.manual_seed(k)
    layer = torch.nn.Linear(6, 8).double()
    x = torch.randn(6, 3, 5, dtype=torch.float64).permute(2, 1, 0)  # (5, 3, 6), not contiguous
    index = torch.randperm(48)[:k].sort().values
    leaf = torch.zeros(k, dtype=torch.float64, requires_grad=True)
    leaf.grad = torch.zeros(k, dtype=torch.float64)
    remove = gradients.Tap(layer, index, leaf, kernel).attach()
    layer(x).square().sum().backward()
    assert_close(leaf.grad, layer.weight.grad.reshape(-1)[index], 1e-10)
    remove()
    assert not layer._forward_hooks


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kernel", kernels.KERNELS)
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_exact_in_a_model(name, kernel):
    backbone = tiny(name, dtype=torch.float64)
    torch.manual_seed(1)
    images, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 2])
    for k in (30, 3000):
        delta = random_delta(backbone, k, "all")
        expected, _ = dense_gradient(backbone, delta, images, labels)
        with Trainable(backbone, delta, kernel) as trainable:
            cross_entropy(backbone(images), labels).backward()
            assert_close(trainable.values.grad, expected, 1e-10)


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_the_sum_is_in_the_values_precision_whatever_the_activations_are_kept_in(kernel):
    torch.manual_seed(0)
    gy, x = torch.randn(70, 8).bfloat16(), torch.randn(70, 6).bfloat16()
    product = kernels.Product(torch.randperm(48)[:9].sort().values, (8, 6), kernel)
    x = x[:, product.columns]
    found = product(gy, x, torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, product(gy.float(), x.float(), torch.float32))


def test_the_cheapest_kernel_follows_the_density():
    rows, columns = 2304, 768
    found = [kernels.cheapest_kernel(round(d * rows * columns), rows, columns) for d in (1e-5, 1e-4, 1e-2, 0.5)]
    assert found == ["gather", "gather", "sampled", "dense"]
    assert kernels.cheapest_kernel(64, 8, 8) == "dense"  # a cluster is a small product of its own
    assert kernels.cheapest_kernel(17_694, rows, columns, "mps") == "dense"


def test_a_layer_that_is_never_called_is_gathered_instead():
    backbone = create_backbone("beit_base_patch16_224", classes=CLASSES, weights="random")
    name = "blocks.11.attn.qkv.weight"
    support = Support({name: torch.tensor([3, 77, 1_000_000])}, {name: (2304, 768)}, backbone.count)
    delta = SparseDelta.zeros(backbone, support)
    torch.manual_seed(0)
    images, labels = torch.randn(1, 3, 224, 224), torch.tensor([1])
    expected, _ = dense_gradient(backbone, delta, images, labels)
    with Trainable(backbone, delta) as trainable:
        assert trainable.demoted == (name,)
        cross_entropy(backbone(images), labels).backward()
        assert_close(trainable.values.grad, expected, 1e-5)
        assert backbone.parameters[name].grad is None


def test_nothing_dense_is_kept():
    backbone = tiny("test_convnext")
    delta = random_delta(backbone, 30, "all")
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        kept = [name for name, p in backbone.parameters.items() if p.grad is not None]
        assert kept == ["head.fc.weight", "head.fc.bias"]
        assert [p.numel() for p in trainable.parameters()] == [30, 64 * 3, 3]


def test_gradients_accumulate_until_they_are_cleared():
    backbone = tiny(dtype=torch.float64)
    delta = random_delta(backbone, 100)
    images, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1])
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(images), labels).backward()
        once = trainable.values.grad.clone()
        cross_entropy(backbone(images), labels).backward()
        assert_close(trainable.values.grad, 2 * once, 1e-12)
        trainable.zero_grad()
        assert not trainable.values.grad.any()
        cross_entropy(backbone(images), labels).backward()
        assert torch.equal(trainable.values.grad, once)

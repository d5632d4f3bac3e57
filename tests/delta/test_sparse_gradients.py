"""The exactness of sparse gradients, against dense autograd."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import cross_entropy

from shpeft.backbones import create_backbone
from shpeft.delta import kernels, sparse_gradients
from shpeft.delta.kernels import Kernel
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import Trainable
from shpeft.selection.top_k import Support
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.deltas import MODELS, assert_close, dense_gradient, random_delta, sparse_gradient
from tests.helpers.present import present

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with one thread and with two, which split the products differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scope", ["matrices", "all"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_dense_autograd(name: str, scope: str, dtype: torch.dtype) -> None:
    backbone = tiny(name, dtype=dtype)
    torch.manual_seed(1)
    images, labels = torch.randn(3, 3, 32, 32, dtype=dtype), torch.tensor([0, 1, 2])
    before = state(backbone)
    for k in (1, 40, 3000, 20_000):
        delta = random_delta(backbone, k, scope)
        expected, expected_head = dense_gradient(backbone, delta, images, labels)
        actual, actual_head = sparse_gradient(backbone, delta, images, labels)
        assert actual.shape == (k,)
        assert_close(actual, expected, TOLERANCE[dtype])
        assert_close(actual_head, expected_head, TOLERANCE[dtype])
    assert_unchanged(backbone, before)


def test_a_batch_of_one_and_all_weights_of_a_layer() -> None:
    backbone = tiny(dtype=torch.float64)
    info = next(i for i in backbone.weight_infos("matrices") if i.matrix == "attn.qkv.weight")
    support = Support({info.name: torch.arange(info.numel)}, {info.name: info.shape}, backbone.weight_count)
    delta = SparseDelta.zeros(backbone, support)
    images, labels = torch.randn(1, 3, 32, 32, dtype=torch.float64), torch.tensor([2])
    expected, _ = dense_gradient(backbone, delta, images, labels)
    actual, _ = sparse_gradient(backbone, delta, images, labels)
    assert_close(actual, expected, 1e-10)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kernel", kernels.KERNELS)
@pytest.mark.parametrize("k", [1, 2, 7, 48])
def test_every_kernel_is_exact_in_chunks_and_on_non_contiguous_inputs(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, k: int
) -> None:
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 50)
    torch.manual_seed(k)
    layer = torch.nn.Linear(6, 8).double()
    x = torch.randn(6, 3, 5, dtype=torch.float64).permute(2, 1, 0)  # (5, 3, 6), not contiguous
    index = torch.randperm(48)[:k].sort().values
    leaf = torch.zeros(k, dtype=torch.float64, requires_grad=True)
    leaf.grad = torch.zeros(k, dtype=torch.float64)
    remove = sparse_gradients.Tap(layer, index, leaf, kernel).attach()
    layer(x).square().sum().backward()
    assert_close(present(leaf.grad), present(layer.weight.grad).reshape(-1)[index], 1e-10)
    remove()
    assert not layer._forward_hooks


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kernel", kernels.KERNELS)
@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_is_exact_in_a_model(name: str, kernel: Kernel) -> None:
    backbone = tiny(name, dtype=torch.float64)
    torch.manual_seed(1)
    images, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 2])
    for k in (30, 3000):
        delta = random_delta(backbone, k, "all")
        expected, _ = dense_gradient(backbone, delta, images, labels)
        with Trainable(backbone, delta, kernel) as trainable:
            cross_entropy(backbone(images), labels).backward()
            assert_close(present(trainable.values.grad), expected, 1e-10)


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_products_are_summed_in_the_precision_of_the_values(kernel: Kernel) -> None:
    torch.manual_seed(0)
    gy, x = torch.randn(70, 8).bfloat16(), torch.randn(70, 6).bfloat16()
    product = kernels.SampledProduct(torch.randperm(48)[:9].sort().values, (8, 6), kernel)
    x = x[:, product.columns]
    actual = product(gy, x, torch.float32)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, product(gy.float(), x.float(), torch.float32))


def test_the_cheapest_kernel_follows_the_density() -> None:
    rows, columns = 2304, 768
    actual = [kernels.cheapest_kernel(round(d * rows * columns), rows, columns) for d in (1e-5, 1e-4, 1e-2, 0.5)]
    assert actual == ["gather", "gather", "sampled", "dense"]
    assert kernels.cheapest_kernel(64, 8, 8) == "dense"  # a cluster is a small product of its own
    assert kernels.cheapest_kernel(17_694, rows, columns, "mps") == "dense"


def test_a_layer_that_is_never_called_falls_back_to_its_dense_gradient() -> None:
    backbone = create_backbone("beit_base_patch16_224", classes=CLASSES, weights="random")
    name = "blocks.11.attn.qkv.weight"
    support = Support({name: torch.tensor([3, 77, 1_000_000])}, {name: (2304, 768)}, backbone.weight_count)
    delta = SparseDelta.zeros(backbone, support)
    torch.manual_seed(0)
    images, labels = torch.randn(1, 3, 224, 224), torch.tensor([1])
    expected, _ = dense_gradient(backbone, delta, images, labels)
    with Trainable(backbone, delta) as trainable:
        assert trainable.demoted == (name,)
        cross_entropy(backbone(images), labels).backward()
        assert_close(present(trainable.values.grad), expected, 1e-5)
        assert backbone.parameters[name].grad is None


def test_no_dense_gradient_is_stored() -> None:
    backbone = tiny("test_convnext")
    delta = random_delta(backbone, 30, "all")
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        with_gradient = [name for name, p in backbone.parameters.items() if p.grad is not None]
        assert with_gradient == ["head.fc.weight", "head.fc.bias"]
        assert [p.numel() for p in trainable.parameters()] == [30, 64 * 3, 3]


def test_gradients_accumulate_until_they_are_cleared() -> None:
    backbone = tiny(dtype=torch.float64)
    delta = random_delta(backbone, 100)
    images, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1])
    with Trainable(backbone, delta) as trainable:
        cross_entropy(backbone(images), labels).backward()
        once = present(trainable.values.grad).clone()
        cross_entropy(backbone(images), labels).backward()
        assert_close(present(trainable.values.grad), 2 * once, 1e-12)
        trainable.zero_grad()
        assert not present(trainable.values.grad).any()
        cross_entropy(backbone(images), labels).backward()
        assert torch.equal(present(trainable.values.grad), once)

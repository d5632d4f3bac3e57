"""LeGrad against a literal computation of its equation, and that it leaves the model as it was."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shpeft.backbones import Backbone, create_backbone
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.explanation.saliency import METHODS, default_method, explain, supported_methods
from tests.conftest import CLASSES, assert_unchanged, state, tiny
from tests.helpers.readable_model import SIZE, readable


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def transformer(pool: str) -> Backbone:
    backbone = tiny()
    module: Any = backbone.module
    module.reset_classifier(3, global_pool=pool)
    backbone = Backbone("vit", module, CLASSES, backbone.transform, "random")
    nn.init.normal_(backbone.head.weight, generator=torch.Generator().manual_seed(0))
    return backbone


def block_with(block: Any, tokens: Tensor, attention: Tensor) -> Tensor:
    """Compute a block's output with the given attention map (heads, n, n), step by step."""
    part, n, width = block.attn, tokens.shape[1], tokens.shape[2]
    v = part.qkv(block.norm1(tokens))[0, :, 2 * width :].view(n, part.num_heads, -1).transpose(0, 1)
    mixed = part.proj((attention @ v).transpose(0, 1).reshape(1, n, width))
    tokens = tokens + block.ls1(mixed)
    output: Tensor = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    return output


def attention_of(block: Any, tokens: Tensor) -> Tensor:
    part, n, width = block.attn, tokens.shape[1], tokens.shape[2]
    q, k = (
        part.qkv(block.norm1(tokens))[0, :, i * width : (i + 1) * width].view(n, part.num_heads, -1).transpose(0, 1)
        for i in range(2)
    )
    weights: Tensor = (q @ k.transpose(1, 2) * part.scale).softmax(-1)
    return weights


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_map_is_the_equation_of_the_paper_block_by_block(pool: str, image: Tensor) -> None:
    backbone = transformer(pool)
    module: Any = backbone.module
    inputs: list[Tensor] = []
    handles = [block.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for block in module.blocks]
    with torch.no_grad():
        backbone(image)
    for handle in handles:
        handle.remove()
    relevance = torch.zeros(4)
    for block, tokens in zip(module.blocks, inputs, strict=True):
        attention = attention_of(block, tokens).detach().requires_grad_()
        output = module.norm(block_with(block, tokens, attention))
        pooled = output[:, 0] if pool == "token" else output[:, 1:].mean(1)
        score = backbone.head(module.fc_norm(pooled))[0, 1]
        (gradient,) = torch.autograd.grad(score, attention)
        relevance += gradient.relu().mean((0, 1))[1:]
    coarse = (relevance - relevance.min()).view(1, 1, 2, 2)
    expected = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")[0, 0]
    result = explain(backbone, image, 1, "legrad").map
    assert result.max() > 0
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_gradient_of_an_attention_entry_is_its_finite_difference(image: Tensor) -> None:
    """The twin above uses autograd; this checks one of its gradients without it."""
    backbone = transformer("avg")
    module: Any = backbone.module.double()
    tokens = torch.randn(1, 5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block = module.blocks[-1]

    def score(attention: Tensor) -> Tensor:
        pooled = module.norm(block_with(block, tokens, attention))[:, 1:].mean(1)
        logit: Tensor = backbone.head(module.fc_norm(pooled))[0, 1]
        return logit

    attention = attention_of(block, tokens).detach()
    (gradient,) = torch.autograd.grad(score(attention.requires_grad_()), attention)
    step = torch.zeros_like(attention)
    step[1, 2, 3] = 1e-5
    with torch.no_grad():
        slope = (score(attention + step) - score(attention - step)) / 2e-5
    assert slope.item() == pytest.approx(gradient[1, 2, 3].item(), rel=1e-6)


@pytest.mark.parametrize("cancelled", [False, True])
def test_model_and_fused_attention_are_restored_to_the_bit(image: Tensor, cancelled: bool) -> None:
    backbone = transformer("token")
    module: Any = backbone.module
    module.blocks[0].attn.fused_attn = False  # as it was, not as timm sets it
    before, flags = state(backbone), [block.attn.fused_attn for block in module.blocks]
    hooks = [len(child._forward_hooks) for child in module.modules()]
    logits = backbone(image)

    def stop(stage: str, done: int, total: int) -> None:
        if cancelled:
            raise Cancelled

    try:
        explain(backbone, image, 0, "legrad", progress=stop)
    except Cancelled:
        assert cancelled
    assert_unchanged(backbone, before)
    assert [block.attn.fused_attn for block in module.blocks] == flags
    assert [len(child._forward_hooks) for child in module.modules()] == hooks
    assert torch.equal(backbone(image), logits)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"]
)
def test_other_transformers_of_timm_have_maps(name: str) -> None:
    size = 28 if "patch14" in name else 32
    backbone = create_backbone(name, classes=CLASSES, weights="random", image_size=size)
    nn.init.normal_(backbone.head.weight)
    result = explain(backbone, torch.randn(1, 3, size, size), 0, "legrad").map
    assert result.shape == (size, size)
    assert result.min() == 0
    assert result.max() > 0


@pytest.mark.parametrize("name", ["test_convnext", "cait_xxs24_224"])
def test_models_without_global_attention_are_refused(name: str) -> None:
    backbone = create_backbone(name, classes=CLASSES, weights="random", image_size=64)
    assert default_method(backbone) == "smoothgrad"
    assert "legrad" not in supported_methods(backbone)
    with pytest.raises(DiagnosisError, match=rf"attend to all patches; {name} is none.*SmoothGrad"):
        explain(backbone, torch.zeros(1, 3, 64, 64), 0, "legrad")


def test_default_method_comes_first_and_every_method_is_listed_once(vit: Backbone) -> None:
    methods = supported_methods(vit)
    assert methods[0] == default_method(vit)
    assert sorted(methods) == sorted(METHODS)
    other = readable(nn.Identity())
    assert explain(other, torch.ones(1, 3, SIZE, SIZE), 0).method == default_method(other) == "smoothgrad"

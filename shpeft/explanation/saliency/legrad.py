"""LeGrad: how a class's score would change with the attention maps of a vision transformer.

Bousselham et al. 2024, "LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity",
arXiv 2404.03214.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError
from shpeft.explanation.saliency.case import Explained, Result


def legrad(case: Explained) -> Result:
    """Sum, over the layers, the positive gradients with respect to the attention maps: (1, 1, H, W).

    With z^l the tokens after block l and A^l (heads, n, n) its attention map::

        s^l = head(pool(norm(z^l)))_c
        e_j = Σ_l mean over heads h and queries i of max(0, ∂s^l/∂A^l_{h,i,j})

    e over the patches j, minus its minimum and enlarged to the image, is the map. Each s^l is differentiated through
    its own block only, so all layers together cost less than one backward pass. The attention is computed without a
    fused kernel, which has no attention map.

    Raises:
        DiagnosisError: the backbone has no attention over all of its patches.
    """
    backbone = case.backbone
    module: Any = backbone.module
    blocks = attention_blocks(backbone)
    if not blocks:
        raise _unsupported(backbone)
    with _recorded(blocks) as (tokens, maps):
        case.forward(case.image)
    rows, columns = module.patch_embed.grid_size
    prefix = int(module.num_prefix_tokens)
    if [a.shape[2:] for a in maps] != [(prefix + rows * columns,) * 2] * len(blocks):
        raise _unsupported(backbone)
    relevance = torch.zeros(rows * columns, device=case.image.device)
    for z, attention in zip(tokens, maps, strict=True):
        score = module.forward_head(module.norm(z))[0, case.target]
        (gradient,) = torch.autograd.grad(score, attention, retain_graph=True)
        relevance += gradient.relu().mean((0, 1, 2))[prefix:]
    coarse = (relevance - relevance.min()).view(1, 1, rows, columns)
    return interpolate(coarse, size=case.image.shape[-2:], mode="bilinear", align_corners=False), None


def attention_blocks(backbone: Backbone) -> list[Any]:
    """Return the blocks of a vision transformer whose attention maps can be read; empty for other models."""
    module: Any = backbone.module
    blocks = list(getattr(module, "blocks", ()))
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    parts = grid and all(hasattr(module, name) for name in ("norm", "forward_head", "num_prefix_tokens"))
    return blocks if parts and all(_is_readable(getattr(block, "attn", None)) for block in blocks) else []


def _is_readable(attention: Any) -> bool:
    """Whether the attention passes its map through a dropout layer once its fused kernel is switched off."""
    is_dropout = isinstance(getattr(attention, "attn_drop", None), nn.Dropout)
    return is_dropout and isinstance(getattr(attention, "fused_attn", None), bool)


@contextmanager
def _recorded(blocks: list[Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Record the blocks' outputs (1, n, D) and attention maps (1, heads, n, n); afterwards restore fused attention."""
    tokens: list[Tensor] = []
    maps: list[Tensor] = []
    with ExitStack() as stack:
        for block in blocks:
            handles = (
                block.register_forward_hook(lambda _, args, output: tokens.append(output)),
                block.attn.attn_drop.register_forward_hook(lambda _, args, output: maps.append(output)),
            )
            for handle in handles:
                stack.callback(handle.remove)
            stack.callback(setattr, block.attn, "fused_attn", block.attn.fused_attn)
            block.attn.fused_attn = False
        yield tokens, maps


def _unsupported(backbone: Backbone) -> DiagnosisError:
    return DiagnosisError(
        f"LeGrad needs a vision transformer whose blocks attend to all patches; {backbone.name} is none that it can "
        "read. Choose another method, such as SmoothGrad."
    )

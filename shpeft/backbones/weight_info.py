"""Where each weight of a timm model stands: its depth, its block, and what may be selected."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from timm.models._manipulate import group_with_matcher  # the one place where timm tells the depth of a parameter
from torch import nn

from shpeft.errors import BackboneError


@dataclass(frozen=True)
class WeightInfo:
    """Where a parameter of the backbone stands.

    ``blocks.3.attn.qkv.weight`` has depth 4 (the stem is 0), block ``blocks.3`` and matrix ``attn.qkv.weight``.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    depth: int
    block: str
    matrix: str
    is_matrix: bool = field(default=False, compare=False)
    """The weight of a linear or convolutional layer inside a block, rather than a bias, norm, stem or embedding."""


def classifier(name: str, module: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the module of the head."""
    find: Any = getattr(module, "get_classifier", lambda: None)
    head = find()
    if not isinstance(head, nn.Linear):
        raise BackboneError(
            f"{name} has no single linear head (found {type(head).__name__}). Choose a timm image classifier with one."
        )
    return next(key for key, child in module.named_modules() if child is head), head


def weight_infos(module: nn.Module, head_name: str) -> tuple[WeightInfo, ...]:
    """Every parameter but the head's, in the model's order, with its place."""
    parameters = [(name, p) for name, p in module.named_parameters() if not name.startswith(head_name + ".")]
    depth_of = _depths(module, [name for name, _ in parameters])
    block_of = _blocks(depth_of)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layer_weights = {f"{key}.weight" for key, child in module.named_modules() if isinstance(child, layers)}
    infos = []
    for name, p in parameters:
        block = block_of[depth_of[name]]
        inside = bool(block) and name.startswith(block + ".")
        rest = name[len(block) + 1 :] if inside else name
        infos.append(
            WeightInfo(
                name=name,
                shape=tuple(p.shape),
                numel=p.numel(),
                depth=depth_of[name],
                block=block if inside else ("stem" if depth_of[name] == 0 else "final"),
                matrix=re.sub(r"^(blocks|layers)\.\d+\.", "", rest),  # the first block of a stage shares its prefix
                is_matrix=inside and depth_of[name] > 0 and name in layer_weights,
            )
        )
    return tuple(infos)


def _depths(module: nn.Module, names: list[str]) -> dict[str, int]:
    """timm's depth of each parameter, 0 for the stem; by leading name where a model does not tell."""
    try:
        matcher: Any = module.group_matcher
        depths = group_with_matcher(module.named_parameters(), matcher(coarse=False), reverse=True)
        return {name: int(depths[name]) for name in names}
    except (AttributeError, NotImplementedError, KeyError):
        firsts = list(dict.fromkeys(name.split(".")[0] for name in names))
        return {name: firsts.index(name.split(".")[0]) for name in names}


def _blocks(depth_of: dict[str, int]) -> dict[int, str]:
    """For each depth the dotted prefix that most of its parameters share; stem parameters share none."""
    blocks = {}
    for depth in set(depth_of.values()):
        names = [name.split(".")[:-1] for name, d in depth_of.items() if d == depth]
        leader = Counter(parts[0] for parts in names if parts).most_common(1)
        group = [parts for parts in names if leader and parts and parts[0] == leader[0][0]]
        common = []
        for parts in zip(*group, strict=False):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        blocks[depth] = "" if depth == 0 else ".".join(common)
    return blocks

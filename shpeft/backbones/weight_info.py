"""The position of each parameter in a timm model: its depth, its block and its matrix."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import timm
from timm.models._manipulate import group_with_matcher  # timm has no public function for the depth of a parameter
from torch import nn

from shpeft.errors import BackboneError


@dataclass(frozen=True)
class WeightInfo:
    """The position of a parameter in the backbone.

    For example, ``blocks.3.attn.qkv.weight`` has depth 4 (the stem has 0), block ``blocks.3`` and matrix
    ``attn.qkv.weight``.
    """

    name: str
    shape: tuple[int, ...]
    numel: int
    depth: int
    block: str
    matrix: str
    is_matrix: bool = field(default=False, compare=False)
    """Whether it is the weight of a linear or convolutional layer in a block, not a bias, norm, stem or embedding."""


def classifier(name: str, module: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the module of the head: the linear layer that makes the logits.

    Of a head of several layers it is the last one; the others are weights of the backbone.

    Raises:
        BackboneError: the model has several heads, or none that is linear.
    """
    find: Any = getattr(module, "get_classifier", lambda: None)
    head = find()
    if isinstance(head, tuple | list | nn.ModuleList):
        plain = name.replace("_distilled", "")
        other = f" {plain} has one." if plain != name and timm.is_model(plain) else ""
        count = "two" if len(head) == 2 else len(head)
        raise BackboneError(
            f"{name} has {count} heads and averages their outputs; shpeft adapts models with one linear head.{other} "
            "Choose a timm image classifier with one."
        )
    if isinstance(head, nn.Module) and not isinstance(head, nn.Linear):
        classes = getattr(module, "num_classes", None)
        layers = [child for child in head.modules() if isinstance(child, nn.Linear) and child.out_features == classes]
        head = layers[-1] if layers else head
    if not isinstance(head, nn.Linear):
        described = "none" if head is None else f"a {type(head).__name__}"
        raise BackboneError(
            f"{name} has no single linear head (found {described}). Choose a timm image classifier with one."
        )
    return next(key for key, child in module.named_modules() if child is head), head


def weight_infos(module: nn.Module, head_name: str) -> tuple[WeightInfo, ...]:
    """Return the position of every parameter except those of the head, in the model's order."""
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
    """Return timm's depth of each parameter, 0 for the stem; by leading name if the model does not define it."""
    try:
        matcher: Any = module.group_matcher
        depths = group_with_matcher(module.named_parameters(), matcher(coarse=False), reverse=True)
        return {name: int(depths[name]) for name in names}
    except (AttributeError, NotImplementedError, KeyError):
        firsts = list(dict.fromkeys(name.split(".")[0] for name in names))
        return {name: firsts.index(name.split(".")[0]) for name in names}


def _blocks(depth_of: dict[str, int]) -> dict[int, str]:
    """Return for each depth the dotted prefix that most of its parameters share; empty for the stem."""
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

"""Scores of given numbers, without a model."""

import torch

from shpeft.backbones import WeightInfo
from shpeft.importance.scores import Scores


def make_scores(layers: list[torch.Tensor], total: int | None = None) -> Scores:
    """Make scores of these values, one parameter for each tensor."""
    infos = tuple(
        WeightInfo(f"blocks.{i}.w", tuple(v.shape), v.numel(), i + 1, f"blocks.{i}", "w") for i, v in enumerate(layers)
    )
    values = {info.name: v for info, v in zip(infos, layers, strict=True)}
    return Scores("test", values, infos, total or sum(v.numel() for v in layers))

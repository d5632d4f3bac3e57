"""Estimate the time and the peak memory of a run before it starts."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone, resolve_device
from shpeft.config.schema import BackboneConfig, Precision, RunConfig
from shpeft.errors import CannotSplit
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import MEMORY, CachedForward, split_below
from shpeft.forward.precision import resolve_precision
from shpeft.pipeline.memory import Sizes, free_bytes, measure
from shpeft.pipeline.progress import WorkPlan, trained_share
from shpeft.support.progress import format_duration

BATCH = 8
"""Images of a timed pass."""

TURNS = 3
"""Timed passes after a warm-up; the fastest counts, because other work on the machine only adds time."""

SETUP = 4.0
"""Seconds of a run outside image passes: fitting the probe, bootstrap intervals, files."""

DEFAULT_SHARE = 0.5
"""The share of the blocks that run in each epoch with the default scope, the last half of them."""

REFERENCE = (BackboneConfig(name="vit_small_patch16_224", weights="random", image_size=112), 1.1)
"""Backbone and billions of multiply-adds of the pass that ``rough_seconds`` measures."""


@dataclass(frozen=True)
class Cost:
    """The expected cost of a run.

    Attributes:
        seconds: duration on an otherwise idle machine.
        memory: peak bytes without Python and its libraries; GPU memory if a GPU is used.
    """

    seconds: float
    memory: int

    def __str__(self) -> str:
        size = f"{self.memory / 2**30:.1f} GiB" if self.memory >= 2**30 else f"{self.memory / 2**20:,.0f} MiB"
        return f"{format_duration(self.seconds)}, {size} of memory"


def estimate_cost(config: RunConfig, cases: Sequence[int]) -> Cost:
    """Estimate the cost of a run on this machine.

    The duration of a forward pass is measured with random weights and images, once for each backbone, image size,
    precision and device; ``WorkPlan`` counts the passes. Downloads and slow disks are not included. The memory is that
    of the weights, of the activations saved for a batch, and of cached features.

    Args:
        cases: numbers of training, validation and test images.

    Raises:
        UnknownBackbone, BackboneError: as a run would.
    """
    device = str(resolve_device(config.device))
    precision = resolve_precision(config.precision, device)
    backbone, scope = _untrained(config.backbone), config.selection.scope
    caches, checkpointing = config.training.cache, config.training.checkpointing == "always"
    sizes = measured_sizes(backbone, precision, scope, device, caches and not checkpointing)
    if config.training.checkpointing == "auto" and sizes.can_checkpoint:
        free = free_bytes(torch.device(device))
        checkpointing = free is not None and 4 * sizes.weights + sizes.needed(config) > free
        if checkpointing and sizes.features:
            sizes = measured_sizes(backbone, precision, scope, device, False)
    share = cached_share(backbone, scope) if sizes.features else 1.0
    passes = WorkPlan.of(config, cases, share, checkpointing).total
    memory = 4 * sizes.weights + sizes.needed(config, checkpointing) + min(MEMORY, sum(cases) * sizes.features)
    return Cost(SETUP + passes * seconds_a_pass(backbone, precision, device), memory)


def rough_seconds(gmacs: float, cases: Sequence[int], device: str = "auto") -> float:
    """Return the seconds of a run with the default settings, from the multiply-adds of the backbone alone.

    One small vision transformer is measured on this machine, and other models are taken to be as fast per multiply-add,
    with all blocks alike. ``estimate_cost`` measures the backbone itself.

    Args:
        gmacs: multiply-adds of a forward pass of one image, in billions.
        cases: numbers of training, validation and test images.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """
    backbone, reference = REFERENCE
    speed = reference / seconds_a_pass(backbone, "float32", str(resolve_device(device)))
    return SETUP + WorkPlan.of(RunConfig(), cases, DEFAULT_SHARE).total * gmacs / speed


def _untrained(backbone: BackboneConfig) -> BackboneConfig:
    """Return the same architecture with random weights."""
    return backbone.model_copy(update={"weights": "random"})


@lru_cache(maxsize=64)
def cached_share(backbone: BackboneConfig, scope: str) -> float:
    """Return the share of the blocks that still run once the frozen prefix of each image is cached."""
    with torch.device("meta"):
        model = create_backbone(**backbone.model_dump(), classes=("a", "b"), device=torch.device("meta"))
    return trained_share(model.weight_infos(), model.weight_infos(scope))


@lru_cache(maxsize=64)
def measured_sizes(config: BackboneConfig, precision: Precision, scope: str, device: str, caches: bool) -> Sizes:
    """Measure the sizes on one image with random weights."""
    backbone = create_backbone(**config.model_dump(), classes=("a", "b"), device=device)
    backbone_split = None
    with suppress(CannotSplit):
        names = [info.name for info in backbone.weight_infos(scope)]
        backbone_split = split_below(backbone, names) if caches else None
    if backbone_split is None:
        return measure(ForwardPass(backbone, precision), scope)
    return measure(CachedForward(backbone_split, precision=precision), scope)


@lru_cache(maxsize=64)
@torch.no_grad()
def seconds_a_pass(config: BackboneConfig, precision: Precision, device: str) -> float:
    """Return the seconds per image of a forward pass of a batch, the fastest of a few."""
    backbone = create_backbone(**config.model_dump(), classes=("a", "b"), device=device)
    forward_pass = ForwardPass(backbone, precision)
    images = torch.zeros(BATCH, *backbone.input_shape, device=device)
    return _fastest(lambda: forward_pass(images).sum().item()) / BATCH  # item() waits for the GPU


def _fastest(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)

"""Estimate the time and the peak memory of a run before it starts."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone, resolve_device
from shpeft.config.schema import BackboneConfig, Precision, RunConfig
from shpeft.delta.activation_memory import saved_bytes
from shpeft.errors import CannotSplit
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import MEMORY, CachedForward, split_below
from shpeft.forward.precision import resolve_precision
from shpeft.pipeline.progress import WorkPlan, trained_share
from shpeft.support.progress import format_duration

BATCH = 8
"""Images of a timed pass."""

TURNS = 3
"""Timed passes after a warm-up; the fastest counts, because other work on the machine only adds time."""

SETUP = 4.0
"""Seconds of a run outside image passes: fitting the probe, bootstrap intervals, files."""

FIXED_MEMORY = 160 * 2**20
"""Bytes that are not counted (images, intermediate results, the probe's fit): 150 to 170 MiB as measured with the
embedded backbone and with a ViT-S."""

REFERENCE = (BackboneConfig(name="vit_small_patch16_224", weights="random", image_size=112), 1.1)
"""Backbone and billions of multiply-adds of the pass that ``rough_seconds`` measures."""

SCORES = 2
"""Scores of 4 bytes per eligible weight: both halves; the hybrid is computed when it is read."""


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
    share = cached_share(backbone, scope) if _caches(config) else 1.0
    seconds = SETUP + WorkPlan.of(config, cases, share).total * seconds_a_pass(backbone, precision, device)
    sizes = measured_sizes(backbone, precision, scope, device, _caches(config))
    scoring = 4 * SCORES * sizes.eligible + config.training.batch_size * sizes.scoring
    features = min(MEMORY, sum(cases) * sizes.features)
    training = config.training.batch_size * (0 if config.training.checkpointing else sizes.training) + features
    return Cost(seconds, FIXED_MEMORY + 4 * sizes.weights + max(scoring + features, training))


def rough_seconds(gmacs: float, cases: Sequence[int], device: str = "auto") -> float:
    """Return the seconds of a run with the default settings, from the multiply-adds of the backbone alone.

    One small vision transformer is measured on this machine, and other models are taken to be as fast per multiply-add.
    ``estimate_cost`` measures the backbone itself.

    Args:
        gmacs: multiply-adds of a forward pass of one image, in billions.
        cases: numbers of training, validation and test images.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """
    backbone, reference = REFERENCE
    speed = reference / seconds_a_pass(backbone, "float32", str(resolve_device(device)))
    return SETUP + WorkPlan.of(RunConfig(), cases, 1.0).total * gmacs / speed


def _caches(config: RunConfig) -> bool:
    return config.training.cache and not config.training.checkpointing


def _untrained(backbone: BackboneConfig) -> BackboneConfig:
    """Return the same architecture with random weights."""
    return backbone.model_copy(update={"weights": "random"})


@lru_cache(maxsize=64)
def cached_share(backbone: BackboneConfig, scope: str) -> float:
    """Return the share of the blocks that still run once the frozen prefix of each image is cached."""
    with torch.device("meta"):
        model = create_backbone(**backbone.model_dump(), classes=("a", "b"), device=torch.device("meta"))
    return trained_share(model.weight_infos(), model.weight_infos(scope))


@dataclass(frozen=True)
class Sizes:
    """Numbers of weights, and bytes per image.

    Attributes:
        weights: weights of the backbone.
        eligible: weights that are scored.
        scoring: bytes saved by autograd for gradients of all eligible weights.
        training: bytes saved by autograd for gradients of activations.
        features: bytes of cached features.
    """

    weights: int
    eligible: int
    scoring: int
    training: int
    features: int


@lru_cache(maxsize=64)
def measured_sizes(config: BackboneConfig, precision: Precision, scope: str, device: str, caches: bool) -> Sizes:
    """Measure the sizes on one image with random weights."""
    backbone = create_backbone(**config.model_dump(), classes=("a", "b"), device=device)
    infos = backbone.weight_infos(scope)
    parameters = [backbone.parameters[info.name] for info in infos]
    forward_pass = ForwardPass(backbone, precision)
    image = torch.zeros(1, *backbone.input_shape, device=device)
    backbone_split = None
    with suppress(CannotSplit):
        backbone_split = split_below(backbone, [info.name for info in infos]) if caches else None
    inputs = image if backbone_split is None else backbone_split.encode(image)
    run = forward_pass if backbone_split is None else CachedForward(backbone_split, precision=precision)
    owned = [*backbone.module.parameters(), *backbone.module.buffers(), inputs]
    with backbone.frozen():
        for p in parameters:
            p.requires_grad_(True)
        scoring = saved_bytes(lambda: run(inputs), owned)
        for p in parameters:
            p.requires_grad_(False)
        parameters[0].requires_grad_(True)
        training = saved_bytes(lambda: run(inputs), owned)
    eligible = sum(info.numel for info in infos)
    return Sizes(backbone.weight_count, eligible, scoring, training, 0 if backbone_split is None else inputs.nbytes)


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

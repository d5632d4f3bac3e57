"""What a run will cost, before it starts: the time of its image passes, and the memory that it needs at its peak."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.errors import CannotCut
from shpeft.feed import Feed, Precision
from shpeft.gradients import saved_bytes
from shpeft.pipeline.meter import Work, trained_share
from shpeft.prefix import MEMORY, CachedFeed, cut_below
from shpeft.progress import about

BATCH = 8
"""Images of a timed pass."""

TURNS = 3
"""Timed passes, of which the quickest counts, after one to warm up: other work on the machine only makes it slower."""

SETUP = 4.0
"""Seconds that a run spends besides image passes: fitting the probe's classifier, intervals of the metrics, files."""


BESIDES = 160 * 2**20
"""Bytes that a run takes besides what is counted (images, intermediate results, the probe's fit): 150 to 170 MiB with
the embedded backbone and with a ViT-S."""

SCORES = 3
"""Numbers of 4 bytes that a weight needs while it is scored: both halves and the hybrid."""


@dataclass(frozen=True)
class Cost:
    """What a run is expected to need.

    Attributes:
        seconds: when nothing else runs on this machine.
        memory: bytes at the peak, besides those of Python and its libraries; on a graphics card where one is used.
    """

    seconds: float
    memory: int

    def __str__(self) -> str:
        size = f"{self.memory / 2**30:.1f} GiB" if self.memory >= 2**30 else f"{self.memory / 2**20:,.0f} MiB"
        return f"{about(self.seconds)}, {size} of memory"


def expected(config: RunConfig, cases: Sequence[int]) -> Cost:
    """About what a run will cost on this machine.

    The time of a forward pass is measured with random weights and images, once for each backbone, image size,
    precision and device; ``Work`` says how many passes a run comes to. Reading images from a slow disk and downloading
    are not foreseen. The memory is that of the weights, of what scoring or training keeps of a batch, and of cached
    features.

    Args:
        cases: images to train, validate and test on.

    Raises:
        UnknownBackbone, BackboneError: as a run would.
    """
    where = str(resolve_device(config.device))
    name, size, scope = config.backbone.name, config.backbone.image_size, config.selection.scope
    share = cached_share(name, size, scope) if _caches(config) else 1.0
    seconds = SETUP + Work.plan(config, cases, share).total * seconds_a_pass(name, size, config.precision, where)
    sizes = measured_sizes(name, size, config.precision, scope, where, _caches(config))
    scoring = 4 * SCORES * sizes.eligible + config.training.batch_size * sizes.scoring
    features = min(MEMORY, sum(cases) * sizes.features)
    training = config.training.batch_size * (0 if config.training.checkpointing else sizes.training) + features
    return Cost(seconds, BESIDES + 4 * sizes.weights + max(scoring + features, training))


def _caches(config: RunConfig) -> bool:
    return config.training.cache and not config.training.checkpointing


@lru_cache(maxsize=64)
def cached_share(name: str, image_size: int | None, scope: str) -> float:
    """The share of the blocks that still run once an image's prefix is cached."""
    with torch.device("meta"):
        backbone = create_backbone(
            name, classes=("a", "b"), weights="random", image_size=image_size, device=torch.device("meta")
        )
    return trained_share(backbone.weight_infos(), backbone.weight_infos(scope))


@dataclass(frozen=True)
class Sizes:
    """Counts of weights, and bytes that an image needs.

    Attributes:
        weights, eligible: of the backbone, and of those how many are scored.
        scoring, training: what autograd keeps of an image with the gradients of all eligible weights, and with those of
            activations.
        features: what is cached of an image.
    """

    weights: int
    eligible: int
    scoring: int
    training: int
    features: int


@lru_cache(maxsize=64)
def measured_sizes(
    name: str, image_size: int | None, precision: Precision, scope: str, device: str, caches: bool
) -> Sizes:
    """Counted on one image and random weights."""
    backbone = create_backbone(name, classes=("a", "b"), weights="random", image_size=image_size, device=device)
    infos = backbone.weight_infos(scope)
    parameters = [backbone.parameters[info.name] for info in infos]
    feed, image = Feed(backbone, precision), torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=device)
    cut = None
    with suppress(CannotCut):
        cut = cut_below(backbone, [info.name for info in infos]) if caches else None
    inputs = image if cut is None else cut.encode(image)
    run = feed if cut is None else CachedFeed(cut, precision=precision)
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
    return Sizes(backbone.count, eligible, scoring, training, 0 if cut is None else inputs.nbytes)


@lru_cache(maxsize=64)
@torch.no_grad()
def seconds_a_pass(name: str, image_size: int | None, precision: Precision, device: str) -> float:
    """Seconds of one image's forward pass, in a batch of several: the quickest of a few."""
    backbone = create_backbone(name, classes=("a", "b"), weights="random", image_size=image_size, device=device)
    feed = Feed(backbone, precision)
    images = torch.zeros(BATCH, 3, backbone.image_size, backbone.image_size, device=device)
    return _quickest(lambda: feed(images).sum().item()) / BATCH  # item() waits for a graphics card


def _quickest(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(TURNS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

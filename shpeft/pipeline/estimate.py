"""How long a run will take, before it starts: its work, counted in image passes, times the time of a pass here."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

from shpeft.backbones import create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.feed import Feed, Precision
from shpeft.pipeline.meter import Work, trained_share

BATCH = 8
"""Images of a timed pass."""

TURNS = 3
"""Timed passes, of which the quickest counts, after one to warm up: other work on the machine only makes it slower."""

SETUP = 4.0
"""Seconds that a run spends besides image passes: fitting the probe's classifier, intervals of the metrics, files."""


def expected_seconds(config: RunConfig, cases: Sequence[int]) -> float:
    """About how many seconds a run will take on this machine when nothing else runs.

    The time of a forward pass is measured with random weights and images, once for each backbone, image size,
    precision and device; ``Work`` says how many passes a run comes to. Reading images from a slow disk and downloading
    are not foreseen.

    Args:
        cases: images to train, validate and test on.

    Raises:
        UnknownBackbone, BackboneError: as a run would.
    """
    where = str(resolve_device(config.device))
    name, size = config.backbone.name, config.backbone.image_size
    share = cached_share(name, size, config.selection.scope) if _caches(config) else 1.0
    return SETUP + Work.plan(config, cases, share).total * seconds_a_pass(name, size, config.precision, where)


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

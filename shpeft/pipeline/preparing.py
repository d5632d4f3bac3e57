"""What a run starts from: the images, the backbone, its linear probe, and how the backbone gets its images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shpeft.backbones import Backbone, create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import CannotCut
from shpeft.feed import Feed
from shpeft.pipeline.hearing import attentive
from shpeft.pipeline.meter import Meter, Work, trained_share
from shpeft.prefix import CachedFeed, cut_below
from shpeft.probe import Head, fit_head
from shpeft.progress import silent
from shpeft.runs import FEATURES


@dataclass(frozen=True)
class Prepared:
    """What importance and fine-tuning start from; ``feed`` runs what lies below every eligible weight once an image."""

    data: Dataset
    backbone: Backbone
    probe: Head
    feed: Feed
    work: Work


def prepare(config: RunConfig, meter: Meter | None = None, folder: Path | None = None) -> Prepared:
    """Load the images, make the backbone and fit its linear probe.

    Args:
        folder: where features of the frozen blocks may be kept when memory does not hold them.
    """
    meter = meter or Meter(silent)
    data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=meter.part("Reading the images"))
    meter.lap("dataset")
    meter.part("Loading the backbone")
    backbone = create_backbone(
        config.backbone.name,
        classes=data.classes,
        weights=config.backbone.weights,
        image_size=config.backbone.image_size,
        seed=config.seed,
        device=resolve_device(config.device),
    )
    if not config.training.compiled:  # a compiled model has no blocks to stop at
        attentive(backbone, meter.again)
    eligible = backbone.weight_infos(config.selection.scope)
    feed = feed_for(config, backbone, [info.name for info in eligible], folder)
    share = trained_share(backbone.weight_infos(), eligible) if isinstance(feed, CachedFeed) else 1.0
    work = Work.plan(config, [len(split) for split in data.splits], share)
    meter.plan(work)
    meter.lap("backbone")
    progress = meter.part("Fitting the linear probe", len(data.train), len(data.val), 0)
    probe = fit_head(backbone, data.train, data.val, feed=feed, progress=progress)
    meter.lap("probe")
    return Prepared(data, backbone, probe, feed, work)


def feed_for(
    config: RunConfig, backbone: Backbone, names: Iterable[str], folder: Path | None, present: Feed | None = None
) -> Feed:
    """How the backbone gets its images while only these parameters may change: what lies below them is cached.

    Args:
        present: the feed so far; it goes on when nothing more can be cached.
    """
    present = present or Feed(backbone, config.precision)
    try:
        cut = cut_below(backbone, names) if config.training.cache and not config.training.checkpointing else None
    except CannotCut:
        return present
    if cut is None or (isinstance(present, CachedFeed) and present.cut.block == cut.block):
        return present
    return CachedFeed(cut, folder and folder / FEATURES, config.precision)

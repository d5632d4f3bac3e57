"""The recipe that the command line, the app and a notebook share: a configuration in, a run folder out.

dataset ─▶ backbone ─▶ linear probe ─▶ importance ─▶ selection ─▶ finetune ─▶ test, beside the probe ─▶ calibration
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shpeft.backbones import Backbone, create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.datasets import Dataset, load_dataset
from shpeft.delta import SparseDelta
from shpeft.deltafile import read_header, save_delta
from shpeft.errors import CannotCut
from shpeft.evaluation import Predictions, difference, evaluate, predict
from shpeft.feed import Feed
from shpeft.importance import Scores, estimate_importance, head_written
from shpeft.pipeline.detailing import Details, detail
from shpeft.pipeline.meter import Meter, Work, trained_share
from shpeft.pipeline.trusting import look
from shpeft.prefix import CachedFeed, cut_below
from shpeft.probe import Head, fit_head
from shpeft.progress import Progress, silent
from shpeft.runs import FEATURES, RunFolder
from shpeft.runs.card import model_card
from shpeft.runs.formats import environment, plain
from shpeft.selection import Support, select
from shpeft.summaries import LayerSummary, summarise
from shpeft.training import EpochReport, finetune
from shpeft.trust import fit_trust


@dataclass(frozen=True)
class Prepared:
    """What importance and fine-tuning start from; ``feed`` runs what lies below every eligible weight once an image."""

    data: Dataset
    backbone: Backbone
    probe: Head
    feed: Feed
    work: Work


@dataclass(frozen=True)
class Chosen:
    """The chosen weights ("hybrid", whatever the score) and, of a hybrid, what each half alone would choose."""

    scores: Scores
    supports: dict[str, Support]
    summaries: dict[str, list[LayerSummary]]
    details: Details


def run(
    config: RunConfig,
    folder: RunFolder,
    *,
    progress: Progress = silent,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> dict[str, Any]:
    """Carry out a run and leave it in its folder; returns its metrics.

    The folder says how it ended. Delta, predictions, trust, metrics and card are written at the very end, so a run that
    was cancelled or that failed leaves none of them.

    Raises:
        ShpeftError: whatever the parts raise; the folder's state carries the sentence.
        Cancelled: raised by ``progress``, and passed on.
    """

    def report(stage: str, done: int, total: int) -> None:
        folder.note(stage, done, total)
        progress(stage, done, total)

    with folder.recording(), ExitStack() as stack:
        folder.write_environment()
        meter = Meter(report)
        start = prepare(config, meter, folder.path)
        stack.callback(start.feed.close)
        probe = _predict_probe(start, meter)
        chosen = choose(config, start, meter)
        folder.write_supports(chosen.supports, chosen.scores.infos)
        folder.write_details(*chosen.details)
        folder.write_summaries(chosen.summaries)
        feed = feed_for(config, start.backbone, chosen.supports["hybrid"].indices, folder.path, start.feed)
        if feed is not start.feed:
            start.feed.close()
            stack.callback(feed.close)
        delta, history = _train(config, start, chosen.supports["hybrid"], feed, folder, meter, on_epoch)
        with delta.applied(start.backbone):
            test = start.data.test
            finetuned = predict(start.backbone, test, feed=feed, progress=meter.part("Testing", start.work.test))
            meter.lap("testing")
            calibrating = meter.part("Calibrating", *start.work.calibration)
            seen = look(start.backbone, start.data, feed=feed, progress=calibrating)
        metrics = _metrics(finetuned, probe)
        trust = fit_trust(seen.validation, test=finetuned)
        meter.lap("calibrating")
        save_delta(delta, folder.delta_path, _delta_metadata(config, start, chosen))
        metrics |= {
            "weights": _weights(start.backbone, chosen) | {"delta_bytes": folder.delta_path.stat().st_size},
            "training": _training(history) | {"cached_below": feed.cut.block if isinstance(feed, CachedFeed) else None},
            "dataset": _public(start.data.card),
            "seconds": meter.seconds,
        }
        folder.write_predictions({"finetuned": finetuned, "probe": probe})
        folder.write_validation(seen.validation)
        folder.write_novelty(seen.novelty)
        folder.write_trust(trust)
        folder.write_metrics(metrics)
        folder.write_card(model_card(folder.config, plain(metrics), read_header(folder.delta_path), trust))
    return metrics


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


def choose(config: RunConfig, start: Prepared, meter: Meter | None = None) -> Chosen:
    """Score the weights under the linear probe and choose as many as the budget allows."""
    meter = meter or Meter(silent)
    wanted = config.selection
    scores = estimate_importance(
        start.backbone,
        start.data.train,
        wanted.score,
        formula=wanted.formula,
        norm=wanted.norm,
        lam=wanted.lam,
        normaliser=wanted.normaliser,
        scope=wanted.scope,
        images=wanted.images,
        batch_size=config.training.batch_size,
        expectation=wanted.expectation,
        seed=config.seed,
        head=start.probe,
        feed=start.feed,
        progress=meter.part("Scoring the weights", start.work.scoring),
    )
    progress = meter.part("Choosing the weights")
    parts = {"hybrid": scores}
    if scores.halves is not None:
        parts |= {"task-specific": scores.halves[0], "task-agnostic": scores.halves[1]}
    supports: dict[str, Support] = {}
    summaries: dict[str, list[LayerSummary]] = {}
    for name, part in parts.items():
        progress("selection", len(summaries), len(parts))
        supports[name] = select(part, wanted.budget)
        progress("summaries", len(summaries), len(parts))
        summaries[name] = summarise(part, supports[name].counts())
    details = detail(start.backbone, scores, supports["hybrid"].k)
    meter.lap("importance")
    return Chosen(scores, supports, summaries, details)


def _predict_probe(start: Prepared, meter: Meter) -> Predictions:
    """What the frozen backbone with its linear probe says about the test images."""
    test = start.data.test
    with head_written(start.backbone, start.probe):
        progress = meter.part("Testing the linear probe", start.work.probe_test)
        predictions = predict(start.backbone, test, feed=start.feed, progress=progress)
    meter.lap("testing the probe")
    return predictions


def _train(
    config: RunConfig,
    start: Prepared,
    support: Support,
    feed: Feed,
    folder: RunFolder,
    meter: Meter,
    on_epoch: Callable[[EpochReport], None] | None,
) -> tuple[SparseDelta, list[EpochReport]]:
    """Fine-tune; the delta holds the best epoch's values and the backbone is as before."""
    wanted, history = config.training, list[EpochReport]()
    delta = SparseDelta.zeros(start.backbone, support, start.probe)
    progress = meter.part(
        lambda: f"Fine-tuning, epoch {min(len(history) + 1, wanted.epochs)} of {wanted.epochs}",
        start.work.epochs * start.work.epoch,
    )
    epochs = finetune(
        start.backbone,
        delta,
        start.data,
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        lr=wanted.lr,
        head_lr=wanted.head_lr,
        weight_decay=wanted.weight_decay,
        augment=wanted.augment,
        checkpointing=wanted.checkpointing,
        compiled=wanted.compiled,
        seed=config.seed,
        feed=feed,
        progress=progress,
    )
    with closing(epochs):  # type: ignore[type-var]
        for report in epochs:
            history.append(report)
            folder.append_report(report)
            if on_epoch is not None:
                on_epoch(report)
    meter.lap("fine-tuning")
    return delta, history


def _metrics(finetuned: Predictions, probe: Predictions) -> dict[str, Any]:
    """Both models on the test images, and the paired difference fine-tuned − probe."""
    return {
        "finetuned": evaluate(finetuned).to_dict(),
        "probe": evaluate(probe).to_dict(),
        "difference": plain(difference(finetuned, probe)),
    }


def _weights(backbone: Backbone, chosen: Chosen) -> dict[str, Any]:
    k, head = chosen.supports["hybrid"].k, backbone.head_count
    return {
        "score": chosen.scores.name,
        "selected": k,
        "eligible": chosen.scores.eligible,
        "backbone": backbone.count,
        "head": head,
        "share": k / backbone.count,
        "share_with_head": (k + head) / (backbone.count + head),
    }


def _training(history: Sequence[EpochReport]) -> dict[str, Any]:
    best = [report for report in history if report.best]
    return {"epochs": len(history), "best_epoch": best[-1].epoch if best else None}


def _public(card: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset's card without the names of damaged files: they are for whoever owns the images."""
    return {**card, "unreadable": len(card["unreadable"])}


def _delta_metadata(config: RunConfig, start: Prepared, chosen: Chosen) -> dict[str, Any]:
    """What a delta file says of its making: no time and no place, so that the same seed gives the same file."""
    portable = config.model_dump(mode="json")
    portable["dataset"]["source"] = start.data.name
    portable["backbone"]["weights"] = Path(config.backbone.weights).name
    return {
        "config": portable,
        "dataset": {"name": start.data.name, "fingerprint": start.data.fingerprint},
        "score": chosen.scores.name,
        "versions": environment()["libraries"],
    }

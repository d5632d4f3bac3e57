"""The recipe that the command line, the app and a notebook share: a configuration in, a run folder out.

dataset ─▶ backbone ─▶ linear probe ─▶ importance ─▶ selection ─▶ finetune ─▶ test, beside the probe ─▶ calibration
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shpeft.backbones import Backbone
from shpeft.config import RunConfig
from shpeft.delta import SparseDelta
from shpeft.deltafile import read_header, save_delta
from shpeft.errors import Cancelled
from shpeft.evaluation import Predictions, difference, evaluate, predict
from shpeft.feed import Feed
from shpeft.importance import Scores, estimate_importance, head_written
from shpeft.pipeline.detailing import Details, detail
from shpeft.pipeline.meter import Meter
from shpeft.pipeline.preparing import Prepared, feed_for, prepare
from shpeft.pipeline.trusting import look
from shpeft.prefix import CachedFeed
from shpeft.progress import Progress, silent
from shpeft.runs import Resumption, RunFolder
from shpeft.runs.card import model_card
from shpeft.runs.formats import environment, plain
from shpeft.selection import Support, select
from shpeft.summaries import LayerSummary, summarise
from shpeft.training import Checkpoint, EpochReport, finetune, never
from shpeft.trust import fit_trust


@dataclass(frozen=True)
class Chosen:
    """The chosen weights ("hybrid", whatever the score) and, of a hybrid, what each half alone would choose."""

    scores: Scores
    supports: dict[str, Support]
    summaries: dict[str, list[LayerSummary]]
    details: Details


@dataclass(frozen=True)
class Selected:
    """What is trained, by which score it was chosen, and among how many weights."""

    support: Support
    score: str
    eligible: int


def run(
    config: RunConfig,
    folder: RunFolder,
    *,
    progress: Progress = silent,
    on_epoch: Callable[[EpochReport], None] | None = None,
    stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """Carry out a run and leave it in its folder; returns its metrics.

    The folder says how it ended. Delta, predictions, trust, metrics and card are written at the very end, so a run that
    was cancelled or that failed leaves none of them. It leaves a checkpoint once an epoch is over, and a run whose
    folder has one goes on from there to the numbers that it would have had. What another process asks by
    ``RunFolder.ask`` is done as if ``stop`` or ``progress`` had asked it.

    Args:
        on_epoch: told of each epoch, also of those that were over before.
        stop: asked before each training step; True ends training there, and the best epoch so far is what is tested.

    Raises:
        ShpeftError: whatever the parts raise; the folder's state carries the sentence.
        Cancelled: raised by ``progress``, and passed on.
    """

    def report(stage: str, done: int, total: int) -> None:
        folder.note(stage, done, total)
        progress(stage, done, total)
        if folder.ending == "discard":
            raise Cancelled

    def asked_to_stop() -> bool:
        return stop() or folder.ending == "stop"

    with folder.recording() as remarks, ExitStack() as stack:
        resumption = folder.resumption()
        folder.write_environment()
        meter = Meter(report)
        start = prepare(config, meter, folder.path)
        stack.callback(start.feed.close)
        probe = _predict_probe(start, meter)
        selected = _select(config, start, folder, resumption, meter)
        feed = feed_for(config, start.backbone, selected.support.indices, folder.path, start.feed)
        if feed is not start.feed:
            start.feed.close()
            stack.callback(feed.close)
        delta, history = _train(config, start, selected, feed, folder, resumption, meter, on_epoch, asked_to_stop)
        remarks += _remarks(config, history, resumption)
        with delta.applied(start.backbone):
            test = start.data.test
            finetuned = predict(start.backbone, test, feed=feed, progress=meter.part("Testing", start.work.test))
            meter.lap("testing")
            calibrating = meter.part("Calibrating", *start.work.calibration)
            seen = look(start.backbone, start.data, feed=feed, progress=calibrating)
        metrics = _metrics(finetuned, probe)
        trust = fit_trust(seen.validation, test=finetuned)
        meter.lap("calibrating")
        save_delta(delta, folder.delta_path, _delta_metadata(config, start, selected))
        metrics |= {
            "weights": _weights(start.backbone, selected) | {"delta_bytes": folder.delta_path.stat().st_size},
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
        supports[name] = select(part, wanted.budget, wanted.spread)
        progress("summaries", len(summaries), len(parts))
        summaries[name] = summarise(part, supports[name].counts())
    details = detail(start.backbone, scores, supports["hybrid"].k, wanted.spread)
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


def _select(
    config: RunConfig, start: Prepared, folder: RunFolder, resumption: Resumption | None, meter: Meter
) -> Selected:
    """Choose the weights and write the choice down, or read what was chosen before the run was interrupted."""
    if resumption is not None:
        eligible = sum(info.numel for info in folder.weight_infos())
        return Selected(folder.support(), resumption.score, eligible)
    chosen = choose(config, start, meter)
    folder.write_supports(chosen.supports, chosen.scores.infos)
    folder.write_details(*chosen.details)
    folder.write_summaries(chosen.summaries)
    return Selected(chosen.supports["hybrid"], chosen.scores.name, chosen.scores.eligible)


def _train(
    config: RunConfig,
    start: Prepared,
    selected: Selected,
    feed: Feed,
    folder: RunFolder,
    resumption: Resumption | None,
    meter: Meter,
    on_epoch: Callable[[EpochReport], None] | None,
    stop: Callable[[], bool],
) -> tuple[SparseDelta, list[EpochReport]]:
    """Fine-tune; the delta holds the best epoch's values and the backbone is as before."""
    wanted, history = config.training, list[EpochReport]()

    def tell(report: EpochReport) -> None:
        history.append(report)
        if on_epoch is not None:
            on_epoch(report)

    def keep(checkpoint: Checkpoint) -> None:
        folder.write_checkpoint(checkpoint, selected.score)
        folder.write_history(checkpoint.history)

    delta = SparseDelta.zeros(start.backbone, selected.support, start.probe)
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
        stop=stop,
        resume=resumption.checkpoint if resumption else None,
        on_checkpoint=keep,
    )
    past = resumption.checkpoint.history if resumption else ()
    folder.write_history(past)
    for report in past:
        tell(report)
    with closing(epochs):  # type: ignore[type-var]
        for report in epochs:
            tell(report)
    meter.lap("fine-tuning")
    return delta, history


def _remarks(config: RunConfig, history: Sequence[EpochReport], resumption: Resumption | None) -> list[str]:
    """What a finished run should say of itself."""
    found = []
    if len(history) < config.training.epochs:
        found.append(f"Stopped after epoch {len(history)} of {config.training.epochs}.")
    if resumption is not None and not resumption.alike:
        found.append(
            "Resumed with other versions or another number of threads than it began with: the numbers may differ from "
            "those of an uninterrupted run in their last digits."
        )
    return found


def _metrics(finetuned: Predictions, probe: Predictions) -> dict[str, Any]:
    """Both models on the test images, and the paired difference fine-tuned − probe."""
    return {
        "finetuned": evaluate(finetuned).to_dict(),
        "probe": evaluate(probe).to_dict(),
        "difference": plain(difference(finetuned, probe)),
    }


def _weights(backbone: Backbone, selected: Selected) -> dict[str, Any]:
    k, head = selected.support.k, backbone.head_count
    return {
        "score": selected.score,
        "selected": k,
        "eligible": selected.eligible,
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


def _delta_metadata(config: RunConfig, start: Prepared, selected: Selected) -> dict[str, Any]:
    """What a delta file says of its making: no time and no place, so that the same seed gives the same file."""
    portable = config.model_dump(mode="json")
    portable["dataset"]["source"] = start.data.name
    portable["backbone"]["weights"] = Path(config.backbone.weights).name
    return {
        "config": portable,
        "dataset": {"name": start.data.name, "fingerprint": start.data.fingerprint},
        "score": selected.score,
        "versions": environment()["libraries"],
    }

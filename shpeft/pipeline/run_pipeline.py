"""Carry out a run: a configuration in, a finished run folder out.

dataset ─▶ backbone ─▶ linear probe ─▶ importance ─▶ selection ─▶ finetune ─▶ test, beside the probe ─▶ calibration

With ``budget: auto``, selection and fine-tuning run once for each of a few budgets, and the validation loss chooses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from shpeft.backbones import Backbone, WeightInfo
from shpeft.config.schema import AUTO, RunConfig
from shpeft.delta.file import read_header, save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import lr_scale
from shpeft.errors import Cancelled, SelectionError
from shpeft.evaluation.by_task import difference, fit_any_reliability, metrics_of
from shpeft.evaluation.predict import Predictions, predict
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward
from shpeft.importance.layer_summaries import LayerSummary, summarize
from shpeft.importance.scores import Scores, estimate_importance, squared_gradients
from shpeft.pipeline.budget_choice import budgets, describe, excess_loss, learning_rate
from shpeft.pipeline.calibrate import collect_calibration_data, rules_of
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.score_details import ScoreDetails, score_details
from shpeft.pipeline.setup import RunSetup, forward_pass_for, set_up
from shpeft.pipeline.similar_images import training_features
from shpeft.pipeline.team_sharing import share_checkpoint, share_support
from shpeft.runs import Resumption, RunFolder
from shpeft.runs.checkpoint import CheckpointFile
from shpeft.runs.model_card import model_card
from shpeft.selection.top_k import Support, select
from shpeft.support.environment import environment
from shpeft.support.formatting import percent
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent
from shpeft.support.team import ALONE, Team
from shpeft.training.augmentation import STRENGTHS, modality_of
from shpeft.training.loop import Checkpoint, EpochReport, finetune, never


@dataclass(frozen=True)
class ScoredSelection:
    """The scores of all eligible weights and the supports that they select.

    Attributes:
        scores: the scores of the run.
        supports: by score: ``hybrid`` (the score of the run), and both halves of a hybrid score.
        summaries: by score, the layer summaries.
        details: rankings, attention heads and grids.
    """

    scores: Scores
    supports: dict[str, Support]
    summaries: dict[str, list[LayerSummary]]
    details: ScoreDetails


def nothing_to_record() -> None:
    """Record nothing: the selection is in the folder, or in that of another process."""


@dataclass(frozen=True)
class Selection:
    """The selected weights.

    Attributes:
        support: the weights to train.
        score: the name of the score that selected them.
        eligible: the number of weights that they were selected from.
        lr: their learning rate.
        checkpoint: where training with them is recorded.
        resumption: the state to resume from; None: from the beginning.
        record: writes the selection to the run folder.
        lr_scale: (k,) factors of their learning rates; None: 1, or those of the checkpoint that the run resumes from.
    """

    support: Support
    score: str
    eligible: int
    lr: float
    checkpoint: CheckpointFile
    resumption: Resumption | None
    record: Callable[[], None] = nothing_to_record
    lr_scale: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """Weights after training.

    Attributes:
        selected: the weights.
        delta: what changed, at the best epoch.
        history: the start and all epochs.
    """

    selected: Selection
    delta: SparseDelta
    history: list[EpochReport]

    @property
    def val_loss(self) -> float:
        """The validation loss of the result; infinite where no epoch has a finite one."""
        losses = [report.val_loss for report in self.history if report.best and math.isfinite(report.val_loss)]
        return losses[-1] if losses else math.inf


def run(
    config: RunConfig,
    folder: RunFolder,
    *,
    progress: Progress = silent,
    on_epoch: Callable[[EpochReport], None] | None = None,
    stop: Callable[[], bool] = never,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Carry out a run and write its results to its folder.

    Delta, predictions, reliability, metrics and model card are written at the very end: a cancelled or failed run has
    none of them. The first epoch leaves a checkpoint; a run whose folder has one resumes from it and arrives at the
    same numbers. ``RunFolder.state.request_end`` ends the run from any process, as ``stop`` and ``progress`` do.

    Args:
        config: the configuration.
        folder: the folder of the run.
        progress: the progress callback; it cancels the run by raising ``Cancelled``.
        on_epoch: called with each epoch, including those before a checkpoint.
        stop: called before each training step; True ends training, and the best epoch so far is tested.
        team: the processes that carry out the run together. All but the first work in a folder of their own, see
            ``runs.temporary_run``.

    Returns:
        the content of ``metrics.json``, with NaN where that has null; empty in all processes of a team but the first.

    Raises:
        ShpeftError: a stage failed; the folder's state has the message.
        Cancelled: ``progress`` raised it, or another process discarded the run.
        shpeft.errors.Interrupted: a process of the team is gone.

    Examples:
        >>> import tempfile
        >>> import shpeft
        >>> config = shpeft.RunConfig.parse(
        ...     {
        ...         "dataset": {"source": "phantom:fundus?n=36&size=64"},
        ...         "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        ...         "selection": {"budget": 40, "images": 8},
        ...         "training": {"epochs": 1},
        ...     }
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     metrics = shpeft.run(config, shpeft.RunFolder.create(f"{root}/first", config))
        >>> metrics["weights"]["selected"], metrics["training"]["epochs"]
        (40, 1)
    """

    def report(stage: str, done: int, total: int) -> None:
        folder.state.record_progress(stage, done, total)
        progress(stage, done, total)
        if folder.state.end_request == "discard":
            raise Cancelled

    def stop_requested() -> bool:
        return stop() or folder.state.end_request == "stop"

    with folder.state.recording() as remarks, ExitStack() as stack:
        resumption = share_checkpoint(team, folder.checkpoint)
        folder.write_environment()
        meter = RunProgress(report)
        cache = folder.path if team.leads else None  # files in a temporary folder would outlive a killed process
        setup = set_up(config, meter, cache, team)
        stack.callback(setup.forward_pass.close)
        probe = _predict_probe(setup, meter)
        selections = _select(config, setup, folder, resumption, meter)
        names = {name for selected in selections for name in selected.support.indices}
        forward_pass = forward_pass_for(config, setup.backbone, names, cache, setup.forward_pass)
        if forward_pass is not setup.forward_pass:
            setup.forward_pass.close()
            stack.callback(forward_pass.close)
        results = list[Trained]()
        for candidate in selections:
            if results and team.tell(lambda: b"stop" if stop_requested() else b""):
                break
            results.append(_train(config, setup, candidate, forward_pass, folder, meter, on_epoch, stop_requested))
        trained = min(results, key=lambda result: result.val_loss)  # of equal ones the first, which has fewer weights
        selected, delta, history = trained.selected, trained.delta, trained.history
        choice = _budget_choice(setup, results, trained, forward_pass) if config.selection.budget == AUTO else []
        if choice:
            selected.record()
            folder.history.write(history)
        unchanged = not delta.values.any() and delta.head.equals(setup.probe)
        remarks += [
            *_remarks(config, trained, unchanged),
            *([describe(choice)] if choice else []),
            *_unknown_modality(config, setup),
            *setup.backbone.remarks,
        ]
        with delta.applied(setup.backbone):
            test = setup.data.test
            finetuned = predict(
                setup.backbone, test, forward_pass=forward_pass, progress=meter.part("Testing", setup.plan.test)
            )
            meter.lap("testing")
            calibrating = meter.part("Calibrating", *setup.plan.calibration)
            calibration = collect_calibration_data(
                setup.backbone, setup.data, forward_pass=forward_pass, progress=calibrating
            )
            if config.store_features:
                features = training_features(
                    setup.backbone, setup.data, forward_pass=forward_pass, progress=calibrating
                )
        if not team.leads:
            return {}
        metrics = _metrics(finetuned, probe)
        reliability = fit_any_reliability(
            calibration.validation, rules_of(config.decision), finetuned, calibration.distances
        )
        meter.lap("calibrating")
        save_delta(delta, folder.delta_path, _delta_metadata(config, setup, selected))
        metrics |= {
            "weights": _weights(setup.backbone, selected) | {"delta_bytes": folder.delta_path.stat().st_size},
            **({"budgets": to_jsonable(choice)} if choice else {}),
            "training": _training(history)
            | {"cached_below": forward_pass.backbone_split.block if isinstance(forward_pass, CachedForward) else None},
            "dataset": _public(setup.data.card),
            "seconds": meter.seconds,
        }
        folder.predictions.write_test({"finetuned": finetuned, "probe": probe})
        folder.probe.write(setup.probe)
        folder.predictions.write_validation(calibration.validation)
        folder.reliability.write_detector(calibration.ood_detector)
        folder.reliability.write_distances(calibration.distances)
        folder.reliability.write(reliability)
        if config.store_features:
            folder.similar.write(features)
        folder.metrics.write(metrics)
        folder.write_card(model_card(folder.config, to_jsonable(metrics), read_header(folder.delta_path), reliability))
    return metrics


def score_and_select(config: RunConfig, setup: RunSetup, meter: RunProgress | None = None) -> ScoredSelection:
    """Score the weights with the linear probe as head, and select as many as the budget allows.

    Raises:
        SelectionError: the budget is ``auto``, which needs training.
    """
    meter, budget = meter or RunProgress(silent), config.selection.budget
    if isinstance(budget, str):
        raise SelectionError(
            "The budget 'auto' is chosen by training, and nothing is trained here. Give a share such as 1e-4, or a "
            "number of weights."
        )
    return _select_from(_score(config, setup, meter), budget, config, setup, meter)


def _score(config: RunConfig, setup: RunSetup, meter: RunProgress) -> Scores:
    """Score the weights with the linear probe as head."""
    options = config.selection
    return estimate_importance(
        setup.backbone,
        setup.data.train,
        options.score,
        formula=options.formula,
        norm=options.norm,
        lam=options.lam,
        normalizer=options.normalizer,
        exponent=options.exponent,
        scope=options.scope,
        images=options.images,
        batch_size=config.training.batch_size,
        expectation=options.expectation,
        seed=config.seed,
        head=setup.probe,
        forward_pass=setup.forward_pass,
        progress=meter.part("Scoring the weights", setup.plan.scoring),
    )


def _select_from(
    scores: Scores, budget: int | float, config: RunConfig, setup: RunSetup, meter: RunProgress
) -> ScoredSelection:
    """Select as many weights as the budget allows by a score and by its halves, and summarize them."""
    spread = config.selection.spread
    progress = meter.part("Selecting the weights")
    parts = {"hybrid": scores}
    if scores.halves is not None:
        parts |= {"task-specific": scores.halves[0], "task-agnostic": scores.halves[1]}
    supports: dict[str, Support] = {}
    summaries: dict[str, list[LayerSummary]] = {}
    for name, part in parts.items():
        progress("selection", len(summaries), len(parts))
        supports[name] = select(part, budget, spread)
        progress("summaries", len(summaries), len(parts))
        summaries[name] = summarize(part, supports[name].counts())
    details = score_details(setup.backbone, scores, supports["hybrid"].k, spread)
    meter.lap("importance")
    return ScoredSelection(scores, supports, summaries, details)


def _predict_probe(setup: RunSetup, meter: RunProgress) -> Predictions:
    """Return the test predictions of the frozen backbone with its linear probe."""
    test = setup.data.test
    with setup.probe.applied(setup.backbone):
        progress = meter.part("Testing the linear probe", setup.plan.probe_test)
        predictions = predict(setup.backbone, test, forward_pass=setup.forward_pass, progress=progress)
    meter.lap("testing the probe")
    return predictions


def _select(
    config: RunConfig, setup: RunSetup, folder: RunFolder, resumption: Resumption | None, meter: RunProgress
) -> list[Selection]:
    """Select the weights for each budget, and write the first selection to the folder.

    The selection of an interrupted run is read. With several budgets the weights are scored again, which selects the
    same ones, so that the folder need not hold all selections.
    """
    options, training, team = config.selection, config.training, setup.forward_pass.team
    if resumption is not None:
        eligible = sum(info.numel for info in folder.scores.weight_infos()) if team.leads else 0
        support, _ = share_support(team, setup.backbone, folder.scores.support() if team.leads else None)
        return [Selection(support, resumption.score, eligible, training.lr, folder.checkpoint, resumption)]
    scores, selections = _score(config, setup, meter), list[Selection]()
    for budget in budgets(options.budget, scores.eligible, setup.backbone.weight_count):
        chosen, scale = None, None
        if team.leads:
            chosen = _select_from(scores, budget, config, setup, meter)
            gradients = squared_gradients(scores, options.score, options.norm)
            scale = lr_scale(setup.backbone, chosen.supports["hybrid"], training.lr_scale, gradients)
        support, scale = share_support(team, setup.backbone, chosen.supports["hybrid"] if chosen else None, scale)
        smallest = selections[0].support.k if selections else support.k
        checkpoint = folder.checkpoint if options.budget != AUTO else folder.checkpoint.of_budget(support.k)
        selections.append(
            Selection(
                support,
                scores.name,
                scores.eligible,
                learning_rate(training.lr, support.k, smallest),
                checkpoint,
                share_checkpoint(team, checkpoint),
                partial(_record, folder, chosen.supports, scores.infos, chosen.details, chosen.summaries)
                if chosen
                else nothing_to_record,
                scale,
            )
        )
    selections[0].record()
    return selections


def _record(
    folder: RunFolder,
    supports: Mapping[str, Support],
    infos: Sequence[WeightInfo],
    details: ScoreDetails,
    summaries: Mapping[str, Sequence[LayerSummary]],
) -> None:
    """Write a selection to the folder."""
    folder.scores.write_supports(supports, infos)
    folder.scores.write_details(*details)
    folder.scores.write_summaries(summaries)


def _budget_choice(
    setup: RunSetup, results: Sequence[Trained], best: Trained, forward_pass: ForwardPass
) -> list[dict[str, Any]]:
    """Return a row for each budget: its size, its validation loss, and how much that exceeds the best one's."""

    def validated(result: Trained) -> Predictions:
        with result.delta.applied(setup.backbone):
            return predict(setup.backbone, setup.data.val, forward_pass=forward_pass)

    of_best = validated(best)
    return [
        {
            "selected": result.delta.k,
            "share": result.delta.k / setup.backbone.weight_count,
            "lr": result.selected.lr,
            "val_loss": result.val_loss,
            **_training(result.history),
            "excess": None if result is best else asdict(excess_loss(validated(result), of_best)),
        }
        for result in results
    ]


def _train(
    config: RunConfig,
    setup: RunSetup,
    selected: Selection,
    forward_pass: ForwardPass,
    folder: RunFolder,
    meter: RunProgress,
    on_epoch: Callable[[EpochReport], None] | None,
    stop: Callable[[], bool],
) -> Trained:
    """Fine-tune; return the delta of the best epoch and all epochs. The backbone is restored."""
    options, history, resumption = config.training, list[EpochReport](), selected.resumption
    team = forward_pass.team

    def record(report: EpochReport) -> None:
        history.append(report)
        if on_epoch is not None:
            on_epoch(report)

    def write_checkpoint(checkpoint: Checkpoint) -> None:
        selected.checkpoint.write(checkpoint, selected.score, processes=team.size)
        folder.history.write(checkpoint.history)

    delta = SparseDelta.zeros(setup.backbone, selected.support, setup.probe)
    what = f" {percent(delta.k / setup.backbone.weight_count)}" if config.selection.budget == AUTO else ""
    progress = meter.part(
        lambda: f"Fine-tuning{what}, epoch {min(_epochs(history) + 1, options.epochs)} of {options.epochs}",
        setup.plan.training,
    )
    epochs = finetune(
        setup.backbone,
        delta,
        setup.data,
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=selected.lr,
        head_lr=options.head_lr,
        weight_decay=options.weight_decay,
        lr_scale=selected.lr_scale,
        warmup=options.warmup,
        average=options.average,
        augment=options.augment,
        modality=options.modality,
        mixup=options.mixup,
        label_smoothing=options.label_smoothing,
        balance=options.balance,
        checkpointing=options.checkpointing,
        compiled=options.compiled,
        seed=config.seed,
        forward_pass=forward_pass,
        progress=progress,
        stop=stop,
        resume=resumption.checkpoint if resumption else None,
        on_checkpoint=write_checkpoint if team.leads else None,
    )
    past = resumption.checkpoint.history if resumption else ()
    folder.history.write(past)
    for report in past:
        record(report)
    with closing(epochs):  # type: ignore[type-var]
        for report in epochs:
            record(report)
    meter.lap("fine-tuning")
    return Trained(selected, delta, history)


def _remarks(config: RunConfig, trained: Trained, unchanged: bool) -> list[str]:
    """Return the remarks for the message of a finished run; ``unchanged``: whether the model is the linear probe."""
    remarks = []
    if unchanged:
        remarks.append(
            "Fine-tuning brought nothing: no epoch had a lower validation loss than the linear probe, so this model is "
            "the linear probe."
        )
    if (done := _epochs(trained.history)) < config.training.epochs:
        remarks.append(f"Stopped after epoch {done} of {config.training.epochs}.")
    resumption = trained.selected.resumption
    if resumption is not None and not resumption.same_machine:
        remarks.append(
            "Resumed with other versions or another number of threads or processes than before: the last digits of the "
            "numbers may differ from those of an uninterrupted run."
        )
    return remarks


def _unknown_modality(config: RunConfig, setup: RunSetup) -> list[str]:
    """Return the remark on augmentation without a known modality."""
    options, named = config.training, setup.data.card.get("modality")
    if options.augment not in STRENGTHS or options.modality == "general":
        return []
    if modality_of(options.modality, named) != "general":
        return []
    says = f"names the modality {named}, which has no augmentation of its own" if named else "names no modality"
    return [f"The dataset {says}: augmentation kept sides and colors. --modality says what else may change."]


def _metrics(finetuned: Predictions, probe: Predictions) -> dict[str, Any]:
    """Return the test metrics of both models, and the paired difference fine-tuned − probe."""
    return {
        "finetuned": metrics_of(finetuned),
        "probe": metrics_of(probe),
        "difference": to_jsonable(difference(finetuned, probe)),
    }


def _weights(backbone: Backbone, selected: Selection) -> dict[str, Any]:
    k, head = selected.support.k, backbone.head_weight_count
    return {
        "score": selected.score,
        "selected": k,
        "eligible": selected.eligible,
        "backbone": backbone.weight_count,
        "head": head,
        "share": k / backbone.weight_count,
        "share_with_head": (k + head) / (backbone.weight_count + head),
    }


def _training(history: Sequence[EpochReport]) -> dict[str, Any]:
    """Return how many epochs there were and which is the result; 0 is the start."""
    best = max((report.epoch for report in history if report.best), default=None)
    return {"epochs": _epochs(history), "best_epoch": best}


def _epochs(history: Sequence[EpochReport]) -> int:
    """Return the number of finished epochs; the start is none."""
    return history[-1].epoch if history else 0


def _public(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset card with the number of files left out in place of their names, which may name patients."""
    return {**card, "unreadable": len(card["unreadable"]), "contradictory": len(card["contradictory"])}


def _delta_metadata(config: RunConfig, setup: RunSetup, selected: Selection) -> dict[str, Any]:
    """Return the metadata of the delta file, without times and paths: the same seed gives the same file."""
    portable = config.portable().model_dump(mode="json")
    portable["dataset"]["source"] = setup.data.name
    return {
        "config": portable,
        "dataset": {"name": setup.data.name, "fingerprint": setup.data.fingerprint},
        "score": selected.score,
        "versions": environment()["libraries"],
    }

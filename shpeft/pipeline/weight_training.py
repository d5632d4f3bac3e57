"""Train the selected weights of a run, and compare the budgets that it trained with."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from shpeft.config.schema import AUTO, RunConfig
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.evaluation.metrics import Interval
from shpeft.evaluation.predict import Predictions, predict
from shpeft.forward.base import ForwardPass
from shpeft.linear_probe import Head
from shpeft.pipeline.budget_choice import excess_loss
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.setup import RunSetup
from shpeft.pipeline.weight_selection import Selection
from shpeft.runs import RunFolder
from shpeft.support.formatting import percent
from shpeft.training.loop import Checkpoint, EpochReport, finetune


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


def train_selection(
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
        lambda: f"Fine-tuning{what}, epoch {min(epochs_of(history) + 1, options.epochs)} of {options.epochs}",
        setup.plan.training,
    )
    epochs = finetune_as(
        config,
        setup,
        delta,
        forward_pass,
        lr=selected.lr,
        lr_scale=selected.lr_scale,
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


def finetune_as(
    config: RunConfig, setup: RunSetup, delta: SparseDelta, forward_pass: ForwardPass, **more: Any
) -> Iterator[EpochReport]:
    """Fine-tune a delta with the settings of a configuration.

    Args:
        more: further arguments of ``finetune``, which replace those settings.
    """
    options = config.training
    settings: dict[str, Any] = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "lr": options.lr,
        "head_lr": options.head_lr,
        "weight_decay": options.weight_decay,
        "warmup": options.warmup,
        "average": options.average,
        "augment": options.augment,
        "modality": options.modality,
        "mixup": options.mixup,
        "label_smoothing": options.label_smoothing,
        "balance": options.balance,
        "checkpointing": setup.checkpointing,
        "compiled": options.compiled,
        "seed": config.seed,
        "forward_pass": forward_pass,
    }
    return finetune(setup.backbone, delta, setup.data, **settings | more)


def compare_budgets(
    config: RunConfig, setup: RunSetup, results: Sequence[Trained], best: Trained, forward_pass: ForwardPass
) -> list[dict[str, Any]]:
    """Return a row for the linear probe and for each budget: size, validation loss, and excess of that loss.

    The excess is over the row with the lowest loss, which has none. Where no budget is better than the start, that row
    is the linear probe.
    """

    def validated(head_or_delta: Head | SparseDelta) -> Predictions:
        with head_or_delta.applied(setup.backbone):
            return predict(setup.backbone, setup.data.val, forward_pass=forward_pass)

    def row(k: int, lr: float | None, val_loss: float, excess: Interval | None, **summary: Any) -> dict[str, Any]:
        size = {"selected": k, "share": k / setup.backbone.weight_count, "lr": lr, "val_loss": val_loss}
        return size | summary | {"excess": None if excess is None else asdict(excess)}

    lowest, balanced = validated(best.delta), config.training.balance != "none"
    at_start, of_probe = training_summary(best.history)["best_epoch"] == 0, validated(setup.probe)
    excess = None if at_start else excess_loss(of_probe, lowest, balanced)
    rows = [row(0, None, best.history[0].val_loss, excess, epochs=0, best_epoch=0, averaged=0)]
    for result in results:
        excess = None if result is best and not at_start else excess_loss(validated(result.delta), lowest, balanced)
        summary = training_summary(result.history)
        rows.append(row(result.delta.k, result.selected.lr, result.val_loss, excess, **summary))
    return rows


def training_summary(history: Sequence[EpochReport]) -> dict[str, Any]:
    """Return how many epochs there were, which is the result (0 is the start), and of how many it is the mean.

    ``averaged`` is 0 where the result is that of a single epoch.
    """
    best = next((report for report in reversed(history) if report.best), None)
    epoch, averaged = (None, 0) if best is None else (best.epoch, best.averaged)
    return {"epochs": epochs_of(history), "best_epoch": epoch, "averaged": averaged}


def epochs_of(history: Sequence[EpochReport]) -> int:
    """Return the number of finished epochs; the start is none."""
    return history[-1].epoch if history else 0

"""Score the weights of a run and select those to train, for each budget that it compares."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from shpeft.backbones import WeightInfo
from shpeft.config.schema import AUTO, RunConfig
from shpeft.delta.trainable import lr_scale
from shpeft.errors import SelectionError
from shpeft.importance.layer_summaries import LayerSummary, summarize
from shpeft.importance.scores import Scores, estimate_importance, squared_gradients
from shpeft.pipeline.budget_choice import budgets, learning_rate
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.score_details import ScoreDetails, score_details
from shpeft.pipeline.setup import RunSetup
from shpeft.pipeline.team_sharing import share_checkpoint, share_support
from shpeft.runs import Resumption, RunFolder
from shpeft.runs.checkpoint import CheckpointFile
from shpeft.selection.top_k import Support, select
from shpeft.support.progress import silent


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
    return select_from(score_weights(config, setup, meter), budget, config, setup, meter)


def select_weights(
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
    scores, selections = score_weights(config, setup, meter), list[Selection]()
    for budget in budgets(options.budget, scores.eligible, setup.backbone.weight_count):
        chosen, scale = None, None
        if team.leads:
            chosen = select_from(scores, budget, config, setup, meter)
            best = chosen.supports["hybrid"]
            gradients = squared_gradients(scores, options.score, best.indices, options.norm)
            scale = lr_scale(setup.backbone, best, training.lr_scale, gradients)
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
                partial(record_selection, folder, chosen.supports, scores.infos, chosen.details, chosen.summaries)
                if chosen
                else nothing_to_record,
                scale,
            )
        )
    selections[0].record()
    return selections


def score_weights(config: RunConfig, setup: RunSetup, meter: RunProgress) -> Scores:
    """Score the weights with the linear probe as head."""
    options, recomputes = config.selection, setup.checkpointing and config.selection.expectation != "image"
    with setup.backbone.checkpointing() if recomputes else nullcontext():  # gradients by image need what hooks see
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


def select_from(
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


def record_selection(
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

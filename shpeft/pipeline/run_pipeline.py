"""Carry out a run: a configuration in, a finished run folder out.

dataset ─▶ backbone ─▶ linear probe ─▶ importance ─▶ selection ─▶ finetune ─▶ test, beside the probe ─▶ calibration

With ``budget: auto``, selection and fine-tuning run once for each of a few budgets, and the validation loss chooses.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

from shpeft.config.schema import AUTO, RunConfig
from shpeft.delta.file import read_header, save_delta
from shpeft.errors import Cancelled
from shpeft.evaluation.by_task import fit_any_reliability
from shpeft.evaluation.predict import Predictions, predict
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward
from shpeft.pipeline.budget_choice import describe
from shpeft.pipeline.calibrate import collect_calibration_data, rules_of
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.run_facts import (
    automatic_checkpointing,
    compare_with_probe,
    count_weights,
    delta_metadata,
    public_card,
    remarks_on,
    unknown_modality,
)
from shpeft.pipeline.setup import RunSetup, forward_pass_for, set_up
from shpeft.pipeline.similar_images import training_features
from shpeft.pipeline.team_sharing import share_checkpoint
from shpeft.pipeline.weight_selection import select_weights
from shpeft.pipeline.weight_training import Trained, compare_budgets, train_selection, training_summary
from shpeft.runs import RunFolder
from shpeft.runs.model_card import model_card
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent
from shpeft.support.team import ALONE, Team
from shpeft.training.loop import EpochReport, never


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
        probe = predict_probe(setup, meter)
        selections = select_weights(config, setup, folder, resumption, meter)
        names = {name for selected in selections for name in selected.support.indices}
        forward_pass = forward_pass_for(
            config, setup.backbone, names, cache, setup.forward_pass, checkpointing=setup.checkpointing
        )
        if forward_pass is not setup.forward_pass:
            setup.forward_pass.close()
            stack.callback(forward_pass.close)
        results = list[Trained]()
        for candidate in selections:
            if results and team.tell(lambda: b"stop" if stop_requested() else b""):
                break
            results.append(
                train_selection(config, setup, candidate, forward_pass, folder, meter, on_epoch, stop_requested)
            )
        trained = min(results, key=lambda result: result.val_loss)  # of equal ones the first, which has fewer weights
        choice = list[dict[str, Any]]()
        if config.selection.budget == AUTO:
            choice = compare_budgets(config, setup, results, trained, forward_pass)
            trained.selected.record()
            folder.history.write(trained.history)
        remarks += [*remarks_on(config, trained, setup), *filter(None, [describe(choice) if choice else ""])]
        more = {"budgets": to_jsonable(choice)} if choice else {}
        return finish(config, setup, trained, forward_pass, probe, folder, meter, remarks, more)


def finish(
    config: RunConfig,
    setup: RunSetup,
    trained: Trained,
    forward_pass: ForwardPass,
    probe: Predictions,
    folder: RunFolder,
    meter: RunProgress,
    remarks: list[str],
    more: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Test and calibrate what training has made, and write the results of the run.

    Args:
        probe: the test predictions of the linear probe.
        remarks: for the message of the finished run; those on the setup are added.
        more: further entries of ``metrics.json``.

    Returns:
        the content of ``metrics.json``; empty in all processes of a team but the first.
    """
    selected, delta, history = trained.selected, trained.delta, trained.history
    remarks += [*automatic_checkpointing(config, setup), *unknown_modality(config, setup), *setup.backbone.remarks]
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
            features = training_features(setup.backbone, setup.data, forward_pass=forward_pass, progress=calibrating)
    if not forward_pass.team.leads:
        return {}
    metrics = compare_with_probe(finetuned, probe)
    reliability = fit_any_reliability(
        calibration.validation, rules_of(config.decision), finetuned, calibration.distances
    )
    meter.lap("calibrating")
    save_delta(delta, folder.delta_path, delta_metadata(config, setup, selected))
    metrics |= {
        "weights": count_weights(setup.backbone, selected) | {"delta_bytes": folder.delta_path.stat().st_size},
        **more,
        "training": training_summary(history)
        | {"cached_below": forward_pass.backbone_split.block if isinstance(forward_pass, CachedForward) else None},
        "dataset": public_card(setup.data.card),
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


def predict_probe(setup: RunSetup, meter: RunProgress) -> Predictions:
    """Return the test predictions of the frozen backbone with its linear probe."""
    test = setup.data.test
    with setup.probe.applied(setup.backbone):
        progress = meter.part("Testing the linear probe", setup.plan.probe_test)
        predictions = predict(setup.backbone, test, forward_pass=setup.forward_pass, progress=progress)
    meter.lap("testing the probe")
    return predictions

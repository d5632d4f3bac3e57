"""Train, evaluate and record single cells of a plan, when the cells that they need are finished."""

import math

import numpy as np
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.compare.arm import Arm, Rate
from shpeft.compare.cells import Cell
from shpeft.compare.plan import Plan
from shpeft.compare.running.choice import chosen_part
from shpeft.compare.running.dense_weights import DenseWeights, chosen_rate, rate_of
from shpeft.compare.running.measured import measure, measure_shifts
from shpeft.compare.running.memory import training_memory
from shpeft.compare.running.score_cache import ScoreCache
from shpeft.compare.running.task import Task, Tasks
from shpeft.compare.running.training import FittedModel, Trainings, Trial, delta_model, probe_model
from shpeft.compare.running.work_clock import WorkClock
from shpeft.compare.table import Record, Table
from shpeft.config.schema import Precision
from shpeft.delta.sparse_delta import FlatEntries, SparseDelta
from shpeft.errors import RunError
from shpeft.evaluation.by_task import fit_temperatures
from shpeft.evaluation.ensemble import disagreement, mean_of
from shpeft.evaluation.predict import Predictions
from shpeft.importance.scores import Scores
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.selection.top_k import select
from shpeft.support.environment import environment
from shpeft.tasks import SINGLE_LABEL


def can_run(cell: Cell, finished: dict[str, Record]) -> bool:
    """Return whether a cell has a learning rate or tunes it by itself, and the cells it needs are finished."""
    if not all(_has_rate(dense, finished) for dense in _dense_cells(cell, finished)):
        return False
    plan, kind = cell.plan, cell.plan.arms[cell.arm].kind
    if kind == "choice":
        return all(candidate.key in finished for candidate in cell.candidates)
    if kind == "probe" or cell in cell.tuning_cells or _has_rate(cell, finished):
        return True
    return plan.tune == "pooled" and kind != "revert"


class CellRunner:
    """Train, evaluate and record single cells."""

    def __init__(self, plan: Plan, tasks: Tasks, table: Table, score_cache: ScoreCache, clock: WorkClock):
        self.plan, self.tasks, self.table, self.score_cache, self.clock = plan, tasks, table, score_cache, clock
        self.dense = DenseWeights(table)

    def run(self, cell: Cell) -> Record:
        """Run a cell and append it to the table."""
        began, arm = self.clock.update(), self.plan.arms[cell.arm]
        task = self.tasks.get(cell.dataset, cell.seed)
        base = self._base_record(cell, arm, task)
        if arm.kind == "choice":
            return self._choose(cell, base)
        fitted: FittedModel | None
        tuned: Record = {}
        if arm.kind == "probe":
            fitted = probe_model(task, arm.views)
        elif reason := self._why_no_changes(cell, task.backbone):
            fitted, tuned = None, {"failure": reason}
        elif arm.kind == "revert":
            fitted = self._reverted(cell, arm, task)
        else:
            fitted, tuned = self._tuned(cell, task)
        outcome: Record = {"status": "failed"}
        predictions, validation, shifted, seconds = None, None, list[Predictions](), 0.0
        earlier = self._trained_before(tuned)
        if earlier is not None:
            ours = set(base | tuned) - {"libraries", "processor"}
            outcome = {name: value for name, value in earlier.items() if name not in ours}
            predictions, seconds = self.table.predictions(earlier["key"]), earlier["seconds"]
            validation = self.table.validation(earlier["key"]) if self.table.has_validation(earlier["key"]) else None
            shifted = [self.table.shifted(earlier, name) for name in earlier.get("shifts", {})]
        elif fitted is not None:
            validation = fitted.predict(task.data.val)
            temperature = fit_temperatures(validation)
            members = fitted.predict_each(task.data.test)  # the only use of the test images
            predictions = mean_of(members)
            outcome = {"status": "finished"} | measure(fitted, task.backbone, predictions, temperature)
            outcome = outcome | ({"disagreement": disagreement(members)} if len(members) > 1 else {})
            if task.shifted:
                shifted = [fitted.predict(split) for split in task.shifted.values()]
                outcome |= {"shifts": measure_shifts(task, shifted, temperature)}
        record = base | tuned | outcome | {"seconds": round(seconds + self.clock.update() - began, 2)}
        self.table.add_cell(record, predictions, validation, shifted)
        return record

    def _choose(self, cell: Cell, base: Record) -> Record:
        """Take the results of one of the finished cells that a cell chooses among."""
        chosen, measured = chosen_part(cell, self.table)
        ours = set(base) - {"libraries", "processor"}
        record = base | {name: value for name, value in measured.items() if name not in ours}
        if chosen is None:
            self.table.add_cell(record, None)
        else:
            shifted = [self.table.shifted(chosen, name) for name in chosen.get("shifts", {})]
            self.table.add_cell(
                record, self.table.predictions(chosen["key"]), self.table.validation(chosen["key"]), shifted
            )
        return record

    def _base_record(self, cell: Cell, arm: Arm, task: Task) -> Record:
        """Return the provenance part of a record, after checking it against earlier cells."""
        fingerprints = {"data": task.data.fingerprint, "base": task.backbone.fingerprint}
        for earlier in self.table.cells().values():
            same_task = (earlier["dataset"], earlier["seed"]) == (cell.dataset, cell.seed)
            if same_task and earlier.get("images_per_class") == (cell.images if cell.several else None):
                for part, name in (("data", "images"), ("base", "base weights")):
                    if earlier[part] != fingerprints[part]:
                        raise RunError(
                            f"The {name} for {cell.dataset} differ from those of earlier cells of the table in "
                            f"{self.table.folder}. Restore the earlier ones, or fill another table with --out."
                        )
                break
        return {
            "key": cell.key,
            "dataset": cell.dataset,
            "arm": cell.arm,
            "kind": arm.kind,
            "budget": cell.budget,
            "seed": cell.seed,
            "mask": cell.mask,
            **({"images_per_class": cell.images} if cell.several else {}),
            **({} if task.data.task == SINGLE_LABEL else {"task": task.data.task.to_dict()}),
            **fingerprints,
            "cases": {split.name: len(split) for split in task.data.splits},
            **{name: environment()[name] for name in ("libraries", "processor")},
        }

    def _tuned(self, cell: Cell, task: Task) -> tuple[FittedModel | None, Record]:
        """Return the model of the learning rates with the lowest validation loss, and the tuning part of a record."""
        grid = self.plan.grid(self.plan.arms[cell.arm], cell.budget)
        models: dict[Rate, FittedModel | None] = {}
        rate, losses = chosen_rate(cell, self.table), dict[Rate, float]()
        if rate is None:
            losses, models = self._try_rates(cell)
            rate = min(losses, key=lambda each: losses[each])
        trainings = self._trainings(cell)
        training = {"training": cell.training_key(rate)}
        earlier, model = self._trained_before(training), models.get(rate)
        chosen = self.table.trials().get(cell.trial_key(rate))
        if chosen is None:
            chosen, model = self._trial(cell, rate)
        elif model is None and earlier is None and not chosen["diverged"]:  # its model is gone since
            trial, model = trainings.run(rate)
            chosen = _trial_record(cell, rate, trial)  # the same unless the processor is another one
        tuned = cell in cell.tuning_cells
        edge = tuned and len(grid) > 1 and rate.lr in (min(grid), max(grid))
        shown = losses or {rate: math.inf if chosen["val_loss"] is None else chosen["val_loss"]}
        return model, {
            "lr": rate.lr,
            **({} if rate.head_lr is None else {"head_lr": rate.head_lr}),
            **training,
            "trials": {_column(each): None if math.isinf(loss) else loss for each, loss in shown.items()},
            "tuned": tuned,
            "edge": edge,
            **{name: chosen[name] for name in ("epoch", "epochs", "val_loss", "seconds_a_step")},
            "memory": earlier["memory"] if earlier and "memory" in earlier else training_memory(trainings),
        }

    def _try_rates(self, cell: Cell) -> tuple[dict[Rate, float], dict[Rate, FittedModel | None]]:
        """Run the trials that the table lacks; return the mean loss of each choice, and the cell's own models.

        Of a dense kind only the best model so far is held.
        """
        rates = self.plan.rates(self.plan.arms[cell.arm], cell.budget)
        losses: dict[Rate, list[float]] = {rate: [] for rate in rates}
        models: dict[Rate, FittedModel | None] = {}
        tried = self.table.trials()
        for tuner in cell.tuning_cells:
            for rate in rates:
                record, fitted = tried.get(tuner.trial_key(rate)), None
                if record is None:
                    record, fitted = self._trial(tuner, rate)
                losses[rate].append(math.inf if record["val_loss"] is None else record["val_loss"])
                if tuner == cell and fitted is not None:
                    if fitted.dense is not None and min(losses, key=lambda r: losses[r][-1:] or [math.inf]) == rate:
                        models.clear()
                    if fitted.dense is None or not models:
                        models[rate] = fitted
        return {rate: float(np.mean(of_cells)) for rate, of_cells in losses.items()}, models

    def _trainings(self, cell: Cell) -> Trainings:
        return Trainings(cell, self.tasks.get(cell.dataset, cell.seed), self.score_cache, self.clock)

    def _trained_before(self, tuned: Record) -> Record | None:
        """Return a finished cell of the same training from a grid with other rates: its results hold for this cell."""
        same = (r for r in self.table.cells().values() if r.get("training", "") == tuned.get("training"))
        return next((record for record in same if record["status"] == "finished"), None)

    def _trial(self, cell: Cell, rate: Rate) -> tuple[Record, FittedModel | None]:
        trial, fitted = self._trainings(cell).run(rate)
        record = _trial_record(cell, rate, trial)
        self.table.add_trial(record)
        if fitted is not None and fitted.dense is not None:
            self._keep_dense(cell, rate, fitted)
        return record, fitted

    def _keep_dense(self, cell: Cell, rate: Rate, fitted: FittedModel) -> None:
        """Save the fully fine-tuned weights where an arm of the plan needs them."""
        if any(arm.of == cell.arm for arm in self.plan.arms.values()):
            assert fitted.dense is not None
            self.dense.write(cell, rate, fitted.dense)

    def _why_no_changes(self, cell: Cell, backbone: Backbone) -> str:
        """Return why full fine-tuning gives a cell, or those that tune its rate, no changes; empty if it does.

        Weights that full fine-tuning left alone, since the linear probe had the lower validation loss, have no largest
        changes: a selection by them would be the first weights of the model. Reverting them all is the linear probe.
        """
        for dense in _dense_cells(cell, self.table.cells()):
            if not self._train_dense(dense):
                return f"the training of '{dense.title}', whose changes count, diverged"
            if self.plan.arms[cell.arm].kind != "revert" and not self.dense.has_changed(dense, backbone):
                return f"'{dense.title}', whose changes count, has none: the linear probe had the lower validation loss"
        return ""

    def _train_dense(self, cell: Cell) -> bool:
        """Train a cell of kind full again if its weights are gone; return False where its training diverged."""
        rate = chosen_rate(cell, self.table)
        assert rate is not None, "changes are used after the rates of full fine-tuning are chosen"
        if not self.dense.path(cell, rate).exists():
            _, fitted = self._trainings(cell).run(rate)
            if fitted is None:
                return False
            self._keep_dense(cell, rate, fitted)
        return True

    def _reverted(self, cell: Cell, arm: Arm, task: Task) -> FittedModel:
        """Return the fully fine-tuned model with all but its k largest changes reverted."""
        assert cell.dense_cell is not None
        assert cell.budget is not None
        return revert(task, self.dense.read(cell.dense_cell), cell.budget, arm, self.plan.settings(arm).precision)


def revert(
    task: Task, tensors: dict[str, Tensor], budget: int | float, arm: Arm, precision: Precision = "float32"
) -> FittedModel:
    """Keep only the largest changes of densely trained tensors, as many as the budget allows, and the trained head."""
    backbone = task.backbone
    infos = tuple(info for info in backbone.weight_infos() if info.name in tensors)
    changes = {info.name: tensors[info.name] - backbone.parameters[info.name].detach() for info in infos}
    scores = Scores("change", {name: d.abs() for name, d in changes.items()}, infos, backbone.weight_count)
    head = Head(tensors[f"{backbone.head_name}.weight"], tensors[f"{backbone.head_name}.bias"])
    delta = SparseDelta.zeros(backbone, select(scores, budget), head)
    for name, piece in delta.pieces().items():
        piece.copy_(FlatEntries(changes[name], delta.support.indices[name]).read())
    forward_pass = task.forward_pass(backbone, delta.support.indices, precision)
    if arm.refit_head:
        with delta.applied(backbone):
            delta.head = fit_linear_probe(backbone, task.data.train, task.data.val, forward_pass=forward_pass)
    return delta_model(task, delta, forward_pass, arm.views)


def _column(rate: Rate) -> str:
    """Return the name of a trial in a record."""
    return f"{rate.lr:g}" if rate.head_lr is None else f"{rate.lr:g}, head {rate.head_lr:g}"


def _trial_record(cell: Cell, rate: Rate, trial: Trial) -> Record:
    best = trial.best
    return {
        "key": cell.trial_key(rate),
        "cell": cell.title,
        "lr": rate.lr,
        **({} if rate.head_lr is None else {"head_lr": rate.head_lr}),
        "diverged": trial.diverged,
        "val_loss": trial.val_loss if math.isfinite(trial.val_loss) and not trial.diverged else None,
        "epoch": best.epoch if best else None,
        "epochs": trial.history[-1].epoch if trial.history else 0,
        "seconds_a_step": trial.seconds_a_step,
        "history": [
            [
                round(value, 5) if math.isfinite(value) else None
                for value in (r.loss, r.val_loss, r.val_balanced_accuracy, r.val_auroc)
            ]
            for r in trial.history
        ],
    }


def _dense_cells(cell: Cell, finished: dict[str, Record]) -> list[Cell]:
    """Return the cells of kind full whose changes a cell needs, or the trials that tune its learning rate."""
    if cell.dense_cell is None:
        return []
    trained = (cell,) if rate_of(cell, finished) else (cell, *cell.tuning_cells)
    return list(dict.fromkeys(each.dense_cell for each in trained if each.dense_cell is not None))


def _has_rate(cell: Cell, finished: dict[str, Record]) -> bool:
    """Return whether the learning rate of this cell's trials is chosen, or will never be as its training failed."""
    return any(other.key in finished for other in cell.tuned_alike)

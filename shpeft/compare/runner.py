"""Running a plan: cell after cell, each once, by one process or by several."""

import math
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import safetensors.torch
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.compare.arms import Fitted, Trainings, Trial, applied, probed
from shpeft.compare.memory import training_memory
from shpeft.compare.plan import Arm, Cell, Plan
from shpeft.compare.scores import ScoreBook
from shpeft.compare.table import CALIBRATED, PLAN, Record, Table, at_temperature
from shpeft.compare.tasks import Task, Tasks
from shpeft.delta import Entries, SparseDelta
from shpeft.errors import ConfigError, RunError
from shpeft.evaluation import METRICS, Predictions, evaluate
from shpeft.feed import Precision
from shpeft.files import write_atomic
from shpeft.importance import Scores
from shpeft.probe import Head, fit_head
from shpeft.progress import Progress, silent
from shpeft.runs.formats import environment
from shpeft.selection import select
from shpeft.temperature import fit_temperature


def run(
    plan: Plan,
    out: str | Path,
    *,
    root: str | Path = ".",
    only: Sequence[str] = (),
    reuse: str | Path | None = None,
    progress: Progress = silent,
    on_cell: Callable[[Cell, Record, int, int], None] | None = None,
) -> Table:
    """Finish every cell of a plan that is not in the table yet; returns the table.

    Interrupted, it goes on where it stopped when it is called again: with the next training. Called from several
    processes at a time it shares the cells out between them.

    Args:
        root: where the paths of datasets and of weights begin.
        only: patterns such as ``busi/*`` for ``dataset/arm``; only cells that match one are run.
        reuse: the folder of another table, whose finished cells are copied where this plan has the same ones.
        on_cell: called with each cell that this process has finished, its record, and how many of how many are done.

    Raises:
        ConfigError: a pattern that matches no cell.
        RunError: images or weights are others than those that earlier cells of the table were made with; there is no
            table to reuse.
        ShpeftError: whatever a part raises; what is finished stays.
    """
    table = Table(out)
    cells = [c for c in plan.cells() if not only or any(fnmatch(f"{c.dataset}/{c.arm}", p) for p in only)]
    if not cells:
        raise ConfigError(f"No cell matches {', '.join(only)}. Patterns are compared with DATASET/ARM.")
    earlier = None if reuse is None else Table.existing(reuse)
    write_atomic(table.folder / PLAN, plan.to_yaml())
    if earlier is not None:
        table.take_over(earlier, (cell.key for cell in plan.cells()))
    tasks = Tasks(plan, root, progress)
    work = Work(plan, tasks, table, ScoreBook(tasks, table), progress)
    went_on = True
    while went_on:  # a cell may wait for one that another process holds
        went_on = False
        for cell in cells:
            finished = table.cells()
            if cell.key in finished or not work.can_begin(cell, finished):
                continue
            with table.claimed(cell.key) as mine:
                if not mine or cell.key in table.cells():
                    continue
                record = work.finish(cell)
            went_on = True
            if on_cell is not None:
                finished = table.cells()
                on_cell(cell, record, sum(c.key in finished for c in cells), len(cells))
    return table


class Work:
    """What finishing cells needs."""

    def __init__(self, plan: Plan, tasks: Tasks, table: Table, book: ScoreBook, progress: Progress):
        self.plan, self.tasks, self.table, self.book, self.progress = plan, tasks, table, book, progress

    def can_begin(self, cell: Cell, finished: dict[str, Record]) -> bool:
        """Whether the learning rate that a cell takes over is known, where it takes one over."""
        tuning = self.plan.tuning(cell)
        return self.plan.arms[cell.arm].kind == "probe" or tuning.key in (cell.key, *finished)

    def finish(self, cell: Cell) -> Record:
        """Carry a cell out and put it into the table."""
        start, arm = time.monotonic(), self.plan.arms[cell.arm]
        task = self.tasks.get(cell.dataset, cell.seed)
        base = self._record(cell, arm, task)
        fitted: Fitted | None
        tuned: Record = {}
        if arm.kind == "probe":
            fitted = probed(task, arm.views)
        elif arm.kind == "revert":
            fitted = self._reverted(cell, arm, task)
        else:
            fitted, tuned = self._tuned(cell, task)
        found: Record = {"status": "failed"}
        predictions, seconds = None, 0.0
        earlier = self._trained_before(tuned)
        if earlier is not None:
            ours = set(base | tuned) - {"libraries", "processor"}
            found = {name: value for name, value in earlier.items() if name not in ours}
            predictions, seconds = self.table.predictions(earlier["key"]), earlier["seconds"]
        elif fitted is not None:
            val = fitted.predict(task.data.val)
            temperature, _ = fit_temperature(val.probabilities, val.labels)
            predictions = fitted.predict(task.data.test)  # the one time that a cell looks at the test images
            found = {"status": "finished"} | _measured(fitted, task.backbone, predictions, temperature)
        record = base | tuned | found | {"seconds": round(seconds + time.monotonic() - start, 2)}
        self.table.add_cell(record, predictions)
        return record

    def _record(self, cell: Cell, arm: Arm, task: Task) -> Record:
        """What a record says of where it comes from; earlier cells must agree."""
        found = {"data": task.data.fingerprint, "base": task.backbone.fingerprint}
        for earlier in self.table.cells().values():
            if (earlier["dataset"], earlier["seed"]) == (cell.dataset, cell.seed):
                for part, words in (("data", "images"), ("base", "base weights")):
                    if earlier[part] != found[part]:
                        raise RunError(
                            f"The {words} for {cell.dataset} are others than those that the table in"
                            f" {self.table.folder} was begun with. Put the former ones back, or begin another table"
                            " with --out."
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
            **found,
            "cases": {split.name: len(split) for split in task.data.splits},
            **{name: environment()[name] for name in ("libraries", "processor")},
        }

    def _tuned(self, cell: Cell, task: Task) -> tuple[Fitted | None, Record]:
        """The model of the learning rate with the lowest validation loss, and what all rates gave."""
        arm, tuning = self.plan.arms[cell.arm], self.plan.tuning(cell)
        grid = self.plan.grid(arm, cell.budget)
        rates = grid if tuning.key == cell.key else (self.table.cells()[tuning.key]["lr"],)
        trainings = Trainings(cell, task, self.book, self.progress)
        best, model, losses, known = None, None, {}, self.table.trials()
        for lr in rates:
            record, fitted = known.get(cell.trial_key(lr)), None
            if record is None:
                record, fitted = self._trial(cell, trainings, lr)
            losses[lr] = math.inf if record["val_loss"] is None else record["val_loss"]
            if best is None or losses[lr] < losses[best]:
                best, model = lr, fitted
        assert best is not None
        chosen = self.table.trials()[cell.trial_key(best)]
        training = {"training": cell.trial_key(best)}
        earlier = self._trained_before(training)
        if model is None and earlier is None and not chosen["diverged"]:  # it was tried before an interruption
            trial, model = trainings.run(best)
            chosen = _trial_record(cell, best, trial)  # the same, but on another processor
        edge = tuning.key == cell.key and len(grid) > 1 and best in (min(grid), max(grid))
        return model, {
            "lr": best,
            **training,
            "trials": {f"{lr:g}": None if math.isinf(loss) else loss for lr, loss in losses.items()},
            "tuned": tuning.key == cell.key,
            "edge": edge,
            **{name: chosen[name] for name in ("epoch", "epochs", "val_loss", "seconds_a_step")},
            "memory": earlier["memory"] if earlier and "memory" in earlier else training_memory(trainings),
        }

    def _trained_before(self, tuned: Record) -> Record | None:
        """A finished cell of the same training, under a grid with other rates: what it measured holds here too."""
        same = (r for r in self.table.cells().values() if r.get("training", "") == tuned.get("training"))
        return next((record for record in same if record["status"] == "finished"), None)

    def _trial(self, cell: Cell, trainings: Trainings, lr: float) -> tuple[Record, Fitted | None]:
        trial, fitted = trainings.run(lr)
        record = _trial_record(cell, lr, trial)
        self.table.add_trial(record)
        if fitted is not None and fitted.dense is not None:
            self._keep_dense(cell, lr, fitted)
        return record, fitted

    def _keep_dense(self, cell: Cell, lr: float, fitted: Fitted) -> None:
        """Keep what full fine-tuning came to, where an arm of the plan reverts it."""
        if any(arm.of == cell.arm for arm in self.plan.arms.values()):
            assert fitted.dense is not None
            tensors = {name: p.detach().contiguous() for name, p in fitted.dense.trained.items()}
            write_atomic(self._dense_path(cell, lr), safetensors.torch.save(tensors))

    def _dense_path(self, cell: Cell, lr: float) -> Path:
        return self.table.cached(f"dense-{cell.trial_key(lr)}.safetensors")

    def _reverted(self, cell: Cell, arm: Arm, task: Task) -> Fitted | None:
        """The fully fine-tuned model of which only the k largest changes are kept."""
        assert arm.of is not None
        assert cell.budget is not None
        of = Cell(self.plan, cell.dataset, arm.of, None, cell.seed)
        tuning = self.plan.tuning(of)
        lr = self.table.cells()[tuning.key]["lr"]
        path = self._dense_path(of, lr)
        if not path.exists():
            _, fitted = Trainings(of, task, self.book, self.progress).run(lr)
            if fitted is None:
                return None
            self._keep_dense(of, lr, fitted)
        precision = self.plan.settings(arm).precision
        return revert(task, safetensors.torch.load_file(path), cell.budget, arm, precision)


def revert(
    task: Task, tensors: dict[str, Tensor], budget: int | float, arm: Arm, precision: Precision = "float32"
) -> Fitted:
    """Of densely trained tensors (head included) keep the largest changes only, as many as the budget allows."""
    backbone = task.backbone
    infos = tuple(info for info in backbone.weight_infos() if info.name in tensors)
    changes = {info.name: tensors[info.name] - backbone.parameters[info.name].detach() for info in infos}
    scores = Scores("change", {name: d.abs() for name, d in changes.items()}, infos, backbone.count)
    head = Head(tensors[f"{backbone.head_name}.weight"], tensors[f"{backbone.head_name}.bias"])
    delta = SparseDelta.zeros(backbone, select(scores, budget), head)
    for name, piece in delta.pieces().items():
        piece.copy_(Entries(changes[name], delta.support.indices[name]).read())
    feed = task.feed(backbone, delta.support.indices, precision)
    if arm.refit_head:
        with delta.applied(backbone):
            delta.head = fit_head(backbone, task.data.train, task.data.val, feed=feed)
    return applied(task, delta, feed, arm.views)


def _trial_record(cell: Cell, lr: float, trial: Trial) -> Record:
    best = trial.best
    return {
        "key": cell.trial_key(lr),
        "cell": cell.title,
        "lr": lr,
        "diverged": trial.diverged,
        "val_loss": trial.val_loss if math.isfinite(trial.val_loss) and not trial.diverged else None,
        "epoch": best.epoch if best else None,
        "epochs": len(trial.history),
        "seconds_a_step": trial.seconds_a_step,
        "history": [
            [round(value, 5) for value in (r.loss, r.val_loss, r.val_balanced_accuracy, r.val_auroc)]
            for r in trial.history
        ],
    }


def _measured(fitted: Fitted, backbone: Backbone, predictions: Predictions, temperature: float) -> Record:
    """The metrics, and the calibration error at the temperature that was fitted on the validation images."""
    metrics = evaluate(predictions, resamples=0)
    values = {name: getattr(metrics, name).value for name in METRICS}
    values[CALIBRATED] = evaluate(at_temperature(predictions, temperature), resamples=0).ece.value
    return {
        **{name: None if math.isnan(value) else value for name, value in values.items()},
        "temperature": temperature,
        "recall": [row["recall"].value for row in metrics.per_class],
        "trained": fitted.trained,
        "share": fitted.trained / backbone.count,
        "share_with_head": (fitted.trained + backbone.head_count) / (backbone.count + backbone.head_count),
        "bytes": fitted.bytes,
    }

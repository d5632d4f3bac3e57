"""Variants of selecting and training the few weights, on images of the training splits only.

Half of each training split stands in for the test images, so that no choice depends on those. Each variant is one
training from the probe's head at each of its rates; the epoch with the lowest validation loss counts. The results are
stored in ``--store``, a line for each training, and are not repeated. Nothing is timed.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from harness import arguments, publish, table

from shpeft.compare.arm import Arm
from shpeft.compare.plan import Caps, Plan
from shpeft.compare.running.baselines import make_tuner
from shpeft.compare.running.task import Task
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import lr_scale
from shpeft.evaluation.metrics import evaluate
from shpeft.evaluation.predict import predict
from shpeft.evaluation.temperature import refinement_loss
from shpeft.forward.base import ForwardPass
from shpeft.importance.scores import Scores, estimate_importance
from shpeft.linear_probe import Head
from shpeft.selection.top_k import Support, budget_to_count, select
from shpeft.support.progress import silent
from shpeft.training.loop import finetune

CAPS = Caps(train=80, val=30, test=200)
"""The largest number of images of a class, as in results/compare.yaml."""

Measured = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A way to select weights and to train them."""

    choose: Callable[[Task, Scores, int], Support]
    rates: tuple[float, ...] = (1e-2, 3e-2)
    head_lr: float = 1e-4
    scale: str = "uniform"
    augment: str = "none"
    strengths: tuple[float, ...] = (1.0,)


def best(task: Task, scores: Scores, k: int) -> Support:
    """Select the k best weights."""
    return select(scores, k)


def as_few_of_a_row(task: Task, scores: Scores, k: int) -> Support:
    """Select with the library's ``spread: row``."""
    return select(scores, k, spread="row")


def one_a_row_and_column(task: Task, scores: Scores, k: int, reach: int = 8000) -> Support:
    """Select greedily at most one weight of each row and of each column of a matrix, among its 8,000 best.

    The comparison's ``spread: line`` considers all weights, so some of its selections differ.
    """
    values = {}
    for name, v in scores.values.items():
        rows, columns, selected = set[int](), set[int](), torch.full_like(v, -torch.inf).reshape(-1)
        for position in v.reshape(-1).topk(min(reach, v.numel())).indices.tolist():
            row, column = divmod(position, v.shape[1])
            if row not in rows and column not in columns:
                selected[position] = v.reshape(-1)[position]
                rows.add(row)
                columns.add(column)
        values[name] = selected.reshape(v.shape)
    return select(replace(scores, values=values), k)


def as_many_of_each_matrix(task: Task, scores: Scores, k: int) -> Support:
    """Select the same number of weights in every matrix."""
    each = k // len(scores.values)
    chosen = {name: v.reshape(-1).topk(each).indices.sort().values for name, v in scores.values.items()}
    return Support(chosen, {info.name: info.shape for info in scores.infos}, scores.total)


VARIANTS = {
    "product": Variant(best, strengths=(1.0, 0.7, 0.4)),
    "product, random flips": Variant(best, (1e-2,), augment="flip"),
    "product, head rate 1e-3": Variant(best, head_lr=1e-3),
    "product, steps in proportion to the weight": Variant(best, (3e-2,), scale="magnitude"),
    "as many of each matrix": Variant(as_many_of_each_matrix),
    "as few of a row as possible": Variant(as_few_of_a_row, strengths=(1.0, 0.7)),
    "as few of a row, head rate 1e-3": Variant(as_few_of_a_row, head_lr=1e-3),
    "one a row and column": Variant(one_a_row_and_column, strengths=(1.0, 0.7)),
}
DENSE = {"full fine-tuning": (Arm(kind="full"), (3e-5,)), "LoRA r8": (Arm(kind="lora", rank=8), (1e-3, 3e-3))}


def measured(task: Task, forward_pass: ForwardPass) -> Measured:
    """Evaluate the current model on the images that stand in for test images, in points."""
    test, val = (predict(task.backbone, split, forward_pass=forward_pass) for split in (task.data.test, task.data.val))
    metrics = evaluate(test, resamples=0)
    return {
        "balanced_accuracy": 100 * metrics.balanced_accuracy.value,
        "auroc": 100 * metrics.macro_auroc.value,
        "loss": refinement_loss(test.probabilities, test.labels),
        "val_loss": refinement_loss(val.probabilities, val.labels),
    }


def trained(task: Task, variant: Variant, scores: Scores, k: int, lr: float, epochs: int) -> dict[float, Measured]:
    """Train once, and evaluate at every strength."""
    support = variant.choose(task, scores, k)
    forward_pass = task.forward_pass(task.backbone, support.indices, "bfloat16")
    delta = SparseDelta.zeros(task.backbone, support, task.probe)
    for _ in finetune(
        task.backbone,
        delta,
        task.data,
        epochs=epochs,
        lr=lr,
        head_lr=variant.head_lr,
        lr_scale=lr_scale(task.backbone, support, variant.scale),
        augment=variant.augment,
        seed=task.seed,
        forward_pass=forward_pass,
    ):
        pass
    values, head, results = delta.values, delta.head, {}
    for strength in variant.strengths:
        delta.values = strength * values
        delta.head = Head(
            torch.lerp(task.probe.weight, head.weight, strength), torch.lerp(task.probe.bias, head.bias, strength)
        )
        with delta.applied(task.backbone):
            results[strength] = measured(task, forward_pass)
    return results


def trained_densely(task: Task, arm: Arm, lr: float, plan: Plan) -> Measured:
    """Train a baseline in the same loop, and evaluate it."""
    dense = make_tuner(arm, task, task.seed)
    forward_pass = task.forward_pass(dense.backbone, dense.below, "bfloat16")
    for _ in dense.finetune(task.data, forward_pass, lr, plan.settings(arm), task.seed, silent):
        pass
    dense.keep_best()
    return measured(task, forward_pass)


class Store:
    """Results in a file, a line for each."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.records = {self._key(record): record for record in map(json.loads, lines)}

    @staticmethod
    def _key(record: Measured) -> tuple[Any, ...]:
        return tuple(record[name] for name in ("dataset", "seed", "variant", "lr", "strength"))

    def has(self, *key: Any) -> bool:
        """Return whether a dataset, seed, variant, rate and strength are measured."""
        return key in self.records

    def add(self, key: tuple[Any, ...], numbers: Measured) -> None:
        """Append a result."""
        record = dict(zip(("dataset", "seed", "variant", "lr", "strength"), key, strict=True))
        record |= {name: round(value, 5) for name, value in numbers.items()}
        self.records[key] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), file=sys.stderr, flush=True)


def fill(store: Store, plan: Plan, root: Path, name: str, seed: int, titles: set[str]) -> None:
    """Measure the missing results of a dataset with a seed."""
    task = Task(plan, root, name, seed)
    k = budget_to_count(1e-4, task.backbone.weight_count)
    key = (name, seed, "linear probe", None, 1.0)
    if not store.has(*key):
        with task.probe.applied(task.backbone):
            store.add(key, measured(task, task.frozen))
    for title, (arm, rates) in DENSE.items():
        for lr in rates if title in titles else ():
            if not store.has(name, seed, title, lr, 1.0):
                store.add((name, seed, title, lr, 1.0), trained_densely(task, arm, lr, plan))
    scores: Scores | None = None
    for title, variant in VARIANTS.items():
        for lr in variant.rates if title in titles else ():
            if not store.has(name, seed, title, lr, 1.0):
                scores = scores or products(task)
                for strength, numbers in trained(task, variant, scores, k, lr, plan.training.epochs).items():
                    store.add((name, seed, title, lr, strength), numbers)


def products(task: Task) -> Scores:
    """Return |w| · |g| of the blocks' matrices, where g is the gradient of all images: every variant's score."""
    names = [info.name for info in task.backbone.weight_infos("matrices")]
    gradients = estimate_importance(
        task.backbone,
        task.data.train,
        "gradient",
        scope="matrices",
        images=256,
        batch_size=16,
        expectation="all",
        seed=task.seed,
        head=task.probe,
        forward_pass=task.forward_pass(task.backbone, names),
    )
    weights = {name: task.backbone.parameters[name].detach().float().abs() for name in gradients.values}
    return replace(gradients, values={name: g * weights[name].reshape(g.shape) for name, g in gradients.values.items()})


def section(store: Store, datasets: list[str], seeds: list[int], epochs: int) -> str:
    """Return the section's text: means over datasets, by seed."""
    rows = []
    groups = dict.fromkeys(key[2:] for key in store.records)
    for variant, lr, strength in groups:
        title = variant if strength == 1 else f"{variant}, {strength:g} of the change"
        row, any_seed = [title, "" if lr is None else f"{lr:g}"], False
        for seed in seeds:
            records = [store.records.get((name, seed, variant, lr, strength)) for name in datasets]
            whole = all(record is not None for record in records)
            any_seed |= whole
            for measure, form in (("balanced_accuracy", ".1f"), ("auroc", ".1f"), ("val_loss", ".3f")):
                row.append(format(mean(r[measure] for r in records if r), form) if whole else "–")
        if any_seed:
            rows.append(row)
    header = ["variant", "rate"]
    for seed in seeds:
        header += [f"balanced accuracy, seed {seed}", f"AUROC, seed {seed}", f"validation loss, seed {seed}"]
    return (
        f"Means over {len(datasets)} datasets ({', '.join(datasets)}), in points; a dash: not measured on all of them. "
        f"At most {CAPS.train} training images per class, {epochs} epochs, 0.01 % of the weights except for full "
        "fine-tuning and LoRA. Two seeds of one variant differ by two to four points, so smaller differences mean "
        "nothing.\n\n" + table(header, rows)
    )


def main() -> None:
    """Read the options, train what is missing, and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, default=Path(__file__).parents[1] / "results" / "compare.yaml")
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder that the plan's paths start from")
    parser.add_argument("--store", type=Path, default=Path(__file__).with_name("variants.jsonl"))
    parser.add_argument(
        "--dataset", action="append", help="of the plan; by default all except fundus_dr; may be repeated"
    )
    parser.add_argument("--seed", type=int, action="append", help="by default 100 and 101; may be repeated")
    parser.add_argument("--only", action="append", help="a variant; may be repeated; by default all")
    parser.add_argument("--epochs", type=int, help="by default the plan's")
    parser.add_argument("--report", action="store_true", help="train nothing, print the stored results")
    options = parser.parse_args()
    plan, store = Plan.from_yaml(options.plan), Store(options.store)
    if options.epochs:
        plan = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": options.epochs})})
    plan = plan.model_copy(update={"tested_on": "training", "images_per_class": CAPS})
    datasets = options.dataset or [name for name in plan.datasets if name != "fundus_dr"]
    seeds = options.seed or [100, 101]
    for seed in seeds if not options.report else ():
        for name in datasets:
            fill(store, plan, options.data_root, name, seed, set(options.only or (*DENSE, *VARIANTS)))
    text = section(store, datasets, seeds, plan.training.epochs)
    publish("Variants of the method on images of the training splits", text, options.write)


if __name__ == "__main__":
    main()

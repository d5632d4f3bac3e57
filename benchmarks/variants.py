"""What was tried to choose or train the few weights better, on images of the training splits alone.

Half of each training split stands in for the test images, so that nothing is chosen by looking at those. Each variant
is one training from the probe's head, at the rates of its name; the epoch with the lowest validation loss is kept. The
numbers are kept in ``--store``, a line a training, and what is there is not trained again. No time is taken.
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

from shpeft.compare.dense import tuner
from shpeft.compare.plan import Arm, Caps, Plan
from shpeft.compare.tasks import Task
from shpeft.delta import SparseDelta
from shpeft.evaluation import evaluate, predict
from shpeft.feed import Feed
from shpeft.importance import Scores, estimate_importance, head_written
from shpeft.probe import Head
from shpeft.progress import silent
from shpeft.selection import Support, budget_to_count, select
from shpeft.temperature import refinement_loss
from shpeft.trainable import lr_scale
from shpeft.training import finetune

CAPS = Caps(train=80, val=30, test=200)
"""Images of a class at the most, as in results/compare.yaml."""

Measured = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A way to choose the weights and to train them."""

    choose: Callable[[Task, Scores, int], Support]
    rates: tuple[float, ...] = (1e-2, 3e-2)
    head_lr: float = 1e-4
    scale: str = "uniform"
    augment: str = "none"
    strengths: tuple[float, ...] = (1.0,)


def best(task: Task, scores: Scores, k: int) -> Support:
    """The k best, wherever they are."""
    return select(scores, k)


def as_few_of_a_row(task: Task, scores: Scores, k: int) -> Support:
    """The library's ``spread: row``."""
    return select(scores, k, spread="row")


def one_a_row_and_column(task: Task, scores: Scores, k: int, reach: int = 8000) -> Support:
    """Greedily, the best first, at most one of each row and one of each column of a matrix, of its 8,000 best.

    The comparison's ``spread: line`` looks at all of them, and some of its choices are others.
    """
    values = {}
    for name, v in scores.values.items():
        rows, columns, kept = set[int](), set[int](), torch.full_like(v, -torch.inf).reshape(-1)
        for place in v.reshape(-1).topk(min(reach, v.numel())).indices.tolist():
            row, column = divmod(place, v.shape[1])
            if row not in rows and column not in columns:
                kept[place] = v.reshape(-1)[place]
                rows.add(row)
                columns.add(column)
        values[name] = kept.reshape(v.shape)
    return select(replace(scores, values=values), k)


def as_many_of_each_matrix(task: Task, scores: Scores, k: int) -> Support:
    """The same number of every matrix."""
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


def measured(task: Task, feed: Feed) -> Measured:
    """How the model, as it stands, does on the images that stand in for test images, in points."""
    test, val = (predict(task.backbone, split, feed=feed) for split in (task.data.test, task.data.val))
    metrics = evaluate(test, resamples=0)
    return {
        "balanced_accuracy": 100 * metrics.balanced_accuracy.value,
        "auroc": 100 * metrics.macro_auroc.value,
        "loss": refinement_loss(test.probabilities, test.labels),
        "val_loss": refinement_loss(val.probabilities, val.labels),
    }


def trained(task: Task, variant: Variant, scores: Scores, k: int, lr: float, epochs: int) -> dict[float, Measured]:
    """One training, at every strength."""
    support = variant.choose(task, scores, k)
    feed = task.feed(task.backbone, support.indices, "bfloat16")
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
        feed=feed,
    ):
        pass
    values, head, found = delta.values, delta.head, {}
    for strength in variant.strengths:
        delta.values = strength * values
        delta.head = Head(
            torch.lerp(task.probe.weight, head.weight, strength), torch.lerp(task.probe.bias, head.bias, strength)
        )
        with delta.applied(task.backbone):
            found[strength] = measured(task, feed)
    return found


def trained_densely(task: Task, arm: Arm, lr: float, plan: Plan) -> Measured:
    """What others do, in the same loop."""
    dense = tuner(arm, task, task.seed)
    feed = task.feed(dense.backbone, dense.below, "bfloat16")
    for _ in dense.finetune(task.data, feed, lr, plan.settings(arm), task.seed, silent):
        pass
    dense.keep_best()
    return measured(task, feed)


class Store:
    """The numbers that are there, a line each."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.found = {self._key(record): record for record in map(json.loads, lines)}

    @staticmethod
    def _key(record: Measured) -> tuple[Any, ...]:
        return tuple(record[name] for name in ("dataset", "seed", "variant", "lr", "strength"))

    def has(self, *key: Any) -> bool:
        """Whether a dataset, seed, variant, rate and strength were measured."""
        return key in self.found

    def add(self, key: tuple[Any, ...], numbers: Measured) -> None:
        """Keep what was measured."""
        record = dict(zip(("dataset", "seed", "variant", "lr", "strength"), key, strict=True))
        record |= {name: round(value, 5) for name, value in numbers.items()}
        self.found[key] = record
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), file=sys.stderr, flush=True)


def fill(store: Store, plan: Plan, root: Path, name: str, seed: int, wanted: set[str]) -> None:
    """Measure what is missing of a dataset with a seed."""
    task = Task(plan, root, name, seed)
    k = budget_to_count(1e-4, task.backbone.count)
    key = (name, seed, "linear probe", None, 1.0)
    if not store.has(*key):
        with head_written(task.backbone, task.probe):
            store.add(key, measured(task, task.frozen))
    for title, (arm, rates) in DENSE.items():
        for lr in rates if title in wanted else ():
            if not store.has(name, seed, title, lr, 1.0):
                store.add((name, seed, title, lr, 1.0), trained_densely(task, arm, lr, plan))
    scores: Scores | None = None
    for title, variant in VARIANTS.items():
        for lr in variant.rates if title in wanted else ():
            if not store.has(name, seed, title, lr, 1.0):
                scores = scores or products(task)
                for strength, numbers in trained(task, variant, scores, k, lr, plan.training.epochs).items():
                    store.add((name, seed, title, lr, strength), numbers)


def products(task: Task) -> Scores:
    """|w| · |g| of the matrices of blocks, g being the gradient of all images: what every variant chooses by."""
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
        feed=task.feed(task.backbone, names),
    )
    weights = {name: task.backbone.parameters[name].detach().float().abs() for name in gradients.values}
    return replace(gradients, values={name: g * weights[name].reshape(g.shape) for name, g in gradients.values.items()})


def section(store: Store, datasets: list[str], seeds: list[int], epochs: int) -> str:
    """The means over datasets of what every dataset has, by seed."""
    rows = []
    groups = dict.fromkeys(key[2:] for key in store.found)
    for variant, lr, strength in groups:
        title = variant if strength == 1 else f"{variant}, {strength:g} of the change"
        row, any_seed = [title, "" if lr is None else f"{lr:g}"], False
        for seed in seeds:
            found = [store.found.get((name, seed, variant, lr, strength)) for name in datasets]
            whole = all(record is not None for record in found)
            any_seed |= whole
            for measure, form in (("balanced_accuracy", ".1f"), ("auroc", ".1f"), ("val_loss", ".3f")):
                row.append(format(mean(r[measure] for r in found if r), form) if whole else "–")
        if any_seed:
            rows.append(row)
    header = ["variant", "rate"]
    for seed in seeds:
        header += [f"balanced accuracy, seed {seed}", f"AUROC, seed {seed}", f"validation loss, seed {seed}"]
    return (
        f"Means over {len(datasets)} sets of images ({', '.join(datasets)}), in points; a dash: not measured on all of "
        f"them. At most {CAPS.train} training images a class, {epochs} epochs, 0.01 % of the weights but for full "
        "fine-tuning and LoRA. Two seeds of one variant lie two to four points apart, so smaller differences say "
        "nothing.\n\n" + table(header, rows)
    )


def main() -> None:
    """Read the options, train what is missing, print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--plan", type=Path, default=Path(__file__).parents[1] / "results" / "compare.yaml")
    parser.add_argument("--data-root", type=Path, default=Path(), help="where the paths of the plan begin")
    parser.add_argument("--store", type=Path, default=Path(__file__).with_name("variants.jsonl"))
    parser.add_argument("--dataset", action="append", help="of the plan; by default all but fundus_dr; may be repeated")
    parser.add_argument("--seed", type=int, action="append", help="by default 100 and 101; may be repeated")
    parser.add_argument("--only", action="append", help="a variant; may be repeated; by default all")
    parser.add_argument("--epochs", type=int, help="by default the plan's")
    parser.add_argument("--report", action="store_true", help="train nothing, print what is there")
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

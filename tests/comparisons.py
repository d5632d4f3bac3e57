"""Plans of tiny comparisons, and tables that were never run: test probabilities made up to known answers."""

from collections.abc import Callable

import numpy as np

from shpeft.compare import Plan, Table
from shpeft.compare.plan import Cell
from shpeft.evaluation import METRICS, Predictions, evaluate

SETTING = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "datasets": {name: {"source": f"phantom:{name}?n=36&size=32"} for name in ("fundus", "ultrasound")},
    "images_per_class": {"train": 6, "val": 4},
    "seeds": [0, 1],
    "budgets": [40],
    "tune": "first",
    "training": {"epochs": 2, "batch_size": 8},
    "grids": {
        "head": [1e-4, 1e-3],
        "full": [1e-5, 1e-4],
        "bitfit": [1e-4, 1e-3],
        "lora": [1e-4, 1e-3],
        "sparse": [1e-3, 1e-2],
    },
}

ARMS = {
    "probe": {"kind": "probe"},
    "head": {"kind": "head"},
    "full": {"kind": "full"},
    "bitfit": {"kind": "bitfit"},
    "product": {"kind": "sparse", "images": 8},
    "random": {"kind": "sparse", "score": "random", "masks": 2},
    "like": {"kind": "sparse", "score": "random", "like": "product"},
    "revert": {"kind": "revert", "of": "full", "budgets": [40, 0.1]},
}


def plan_of(wanted=None, **changes) -> Plan:
    """A plan that runs in seconds, by default with an arm of every kind."""
    return Plan.parse({**SETTING, "arms": wanted or ARMS, **changes})


def planned(names=("a", "b", "c"), arms=None, **claim) -> Plan:
    """Three sets, two seeds, and the arms probe, good, same and bad, of which the report is about good."""
    usual = {"probe": {"kind": "probe"}, "good": {"kind": "sparse"}, "same": {"kind": "sparse", "lam": 0.1}}
    return Plan.parse(
        {
            "datasets": {name: {"source": f"phantom:{name}"} for name in names},
            "seeds": [0, 1],
            "grids": {"sparse": [1e-3, 1e-2], "full": [1e-5, 1e-4], "lora": [1e-4, 1e-3]},
            "arms": arms or {**usual, "bad": {"kind": "sparse", "lam": 0.2}},
            "report": {"method": "good", **claim},
        }
    )


def first(share: float, n: int = 200) -> Callable[[Cell], np.ndarray]:
    """Right in the first so many cases, and in one more with each seed."""
    return lambda cell: np.arange(n) < n * share + cell.seed


USUAL = {"probe": first(0.6), "good": first(0.8), "same": first(0.8), "bad": first(0.6)}


def predicted(right: np.ndarray, confidence: float = 0.9, groups: tuple[str, ...] = ()) -> Predictions:
    """Of two classes in turn, right where it is said, always as sure."""
    n = len(right)
    labels = np.arange(n) % 2
    p = np.where(right, confidence, 1 - confidence)
    probabilities = np.where(np.eye(2)[labels] > 0, p[:, None], 1 - p[:, None])
    ids = tuple(map(str, range(n)))
    return Predictions(ids, tuple(labels.tolist()), groups or ids, ("no", "yes"), probabilities)


def made_up(folder, plan: Plan, rights=None, without=(), failed=(), confidence=None) -> Table:
    """Fill a table.

    Args:
        rights: for each arm, which cases of a cell it gets right.
        without: arms, or (arm, dataset) pairs, whose cells are missing; ``failed`` those that diverged.
        confidence: for each arm the probability of what it says, 0.9 by default.
    """
    table = Table(folder)
    (table.folder / "plan.yaml").write_text(plan.to_yaml())
    for cell in plan.cells():
        if {cell.arm, (cell.arm, cell.dataset)} & set(without):
            continue
        predictions = predicted((rights or USUAL)[cell.arm](cell), (confidence or {}).get(cell.arm, 0.9))
        diverged = bool({cell.arm, (cell.arm, cell.dataset)} & set(failed))
        table.add_cell(record(plan, cell, predictions, diverged), None if diverged else predictions)
    return table


def record(plan: Plan, cell: Cell, predictions: Predictions, diverged: bool = False) -> dict:
    """A line of the table as the runner writes it."""
    arm, metrics = plan.arms[cell.arm], evaluate(predictions, resamples=0)
    trained = {"probe": 0, "head": 0, "full": 1_000_000}.get(arm.kind, 1_000_000 * (cell.budget or 0.01))
    found = {
        **{"key": cell.key, "dataset": cell.dataset, "arm": cell.arm, "kind": arm.kind},
        **{
            "budget": cell.budget,
            "seed": cell.seed,
            "mask": cell.mask,
            "seconds": 60.0,
            "processor": f"Make {cell.seed}",
        },
        **{"cases": {"train": 100, "val": 20, "test": len(predictions.labels)}},
        **{"libraries": {"shpeft": "0", "torch": "2"}, "status": "failed" if diverged else "finished"},
    }
    if arm.kind not in ("probe", "revert"):
        edge = cell.arm == "bad"
        found |= {"lr": 1e-2, "edge": edge, "tuned": True, "trials": {"0.001": 0.7, "0.01": None}}
    if diverged:
        return found
    return found | {
        **{name: getattr(metrics, name).value for name in METRICS},
        **{"recall": [row["recall"].value for row in metrics.per_class], "trained": int(trained)},
        **{"share": trained / 1e6, "share_with_head": trained / 1e6 + 1e-4, "bytes": 4096, "seconds_a_step": 0.1},
    }

"""Plans of tiny comparisons, and tables that were never run: test probabilities made up to known answers."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shpeft import compare
from shpeft.compare import Plan, Table, list_cells
from shpeft.compare.cells import Cell
from shpeft.evaluation.metrics import METRICS, evaluate
from shpeft.evaluation.predict import Predictions

Correct = NDArray[np.bool_]
"""(N,) which cases are predicted correctly."""

SETTING: dict[str, Any] = {
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

EVERY_KIND: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "head": {"kind": "head"},
    "full": {"kind": "full"},
    "bitfit": {"kind": "bitfit"},
    "product": {"kind": "sparse", "images": 8},
    "random": {"kind": "sparse", "score": "random", "masks": 2},
    "like": {"kind": "sparse", "score": "random", "like": "product"},
    "revert": {"kind": "revert", "of": "full", "budgets": [40, 0.1]},
}

ARMS: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "good": {"kind": "sparse"},
    "random": {"kind": "sparse", "score": "random"},
    "gradient": {"kind": "sparse", "score": "gradient"},
    "full": {"kind": "full"},
    "LoRA": {"kind": "lora"},
    "kept": {"kind": "revert", "of": "full", "budgets": [1e-3, 1e-1]},
}
"""A comparison with every kind of question; ``CORRECT`` has the answers of its made-up table."""

QUESTIONS: dict[str, dict[str, Any]] = {
    "baseline": {"kind": "better", "than": "baseline", "by": 0.02},
    "random": {"kind": "better", "than": "random", "topic": "Does it matter which weights are trained"},
    "gradient": {"kind": "better", "than": "gradient"},
    "full": {"kind": "not_worse", "than": "full"},
    "LoRA": {"kind": "not_worse", "than": "LoRA"},
    "kept": {"kind": "retains"},
    "ece": {"kind": "not_worse", "than": "baseline", "metric": "ece"},
    "ece_calibrated": {"kind": "not_worse", "than": "baseline", "metric": "ece_calibrated"},
    "shared": {"kind": "shared_weights"},
    "own": {"kind": "own_weights"},
    "magnitude": {"kind": "magnitude_predicts"},
}
"""Questions of every kind, by the arm that they need or by their kind."""


def plan_of(arms: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
    """A plan that runs in seconds, by default with an arm of every kind."""
    return Plan.parse({**SETTING, "arms": arms or EVERY_KIND, **changes})


def planned(names: Sequence[str] = ("a", "b", "c"), arms: Mapping[str, Any] | None = None, **report: Any) -> Plan:
    """Three datasets, two seeds, and the arms probe, good, same and bad, with a report about good.

    Args:
        report: settings of the report; its questions are by default those of ``QUESTIONS`` that fit the arms.
    """
    usual = {"probe": {"kind": "probe"}, "good": {"kind": "sparse"}, "same": {"kind": "sparse", "lam": 0.1}}
    arms = arms or {**usual, "bad": {"kind": "sparse", "lam": 0.2}}
    questions = [q for name, q in QUESTIONS.items() if q.get("than", "baseline") in ("baseline", *arms)]
    return Plan.parse(
        {
            "datasets": {name: {"source": f"phantom:{name}"} for name in names},
            "seeds": [0, 1],
            "grids": {"sparse": [1e-3, 1e-2], "full": [1e-5, 1e-4], "lora": [1e-4, 1e-3]},
            "arms": arms,
            "report": {"method": "good", "questions": questions, **report},
        }
    )


def first(share: float, n: int = 200) -> Callable[[Cell], Correct]:
    """Correct in the first ``share`` of the cases, and in one more with each seed."""
    return lambda cell: np.arange(n) < n * share + cell.seed


USUAL = {"probe": first(0.6), "good": first(0.8), "same": first(0.8), "bad": first(0.6)}


def _reverted(cell: Cell) -> Correct:
    """Of full fine-tuning's 30 points, 0.1 % of the weights retain 10, and 10 % retain 29."""
    assert cell.budget is not None
    return first(0.7 if cell.budget < 0.01 else 0.89)(cell)


CORRECT: dict[str, Callable[[Cell], Correct]] = {
    **{"probe": first(0.6), "good": first(0.8), "random": first(0.6), "gradient": first(0.8), "full": first(0.9)},
    **{"LoRA": lambda cell: np.arange(200) >= 39 + 2 * cell.seed, "kept": _reverted},
}
"""Which cases the arms of ``ARMS`` predict correctly."""


def predicted(correct: Correct, confidence: float = 0.9, groups: tuple[str, ...] = ()) -> Predictions:
    """Predictions for two alternating classes, correct as given, all with the same confidence."""
    n = len(correct)
    labels = np.arange(n) % 2
    p = np.where(correct, confidence, 1 - confidence)
    probabilities = np.where(np.eye(2)[labels] > 0, p[:, None], 1 - p[:, None])
    ids = tuple(map(str, range(n)))
    return Predictions(ids, tuple(labels.tolist()), groups or ids, ("no", "yes"), probabilities)


def made_up(
    folder: Path,
    plan: Plan,
    correct: Mapping[str, Callable[[Cell], Correct]] | None = None,
    without: Collection[object] = (),
    failed: Collection[object] = (),
    confidence: Mapping[str, float] | None = None,
) -> Table:
    """Fill a table without training.

    Args:
        correct: for each arm, which cases of a cell are predicted correctly.
        without: arms, or (arm, dataset) pairs, whose cells are missing.
        failed: arms, or (arm, dataset) pairs, whose trainings diverged.
        confidence: for each arm, the probability of the predicted class; 0.9 by default.
    """
    table = Table(folder)
    (table.folder / "plan.yaml").write_text(plan.to_yaml())
    for cell in list_cells(plan):
        if {cell.arm, (cell.arm, cell.dataset)} & set(without):
            continue
        predictions = predicted((correct or USUAL)[cell.arm](cell), (confidence or {}).get(cell.arm, 0.9))
        diverged = bool({cell.arm, (cell.arm, cell.dataset)} & set(failed))
        table.add_cell(record(plan, cell, predictions, diverged), None if diverged else predictions)
    return table


def report_on(folder: Path, plan: Plan, **table: Any) -> str:
    """Write the report on a made-up table, and return the text of its appendix."""
    path = compare.write_report(plan, made_up(folder, plan, **table).folder, resamples=400)
    return path.with_name("APPENDIX.md").read_text()


def record(plan: Plan, cell: Cell, predictions: Predictions, diverged: bool = False) -> dict[str, Any]:
    """A line of the table as the runner writes it."""
    arm, metrics = plan.arms[cell.arm], evaluate(predictions, resamples=0)
    trained = {"probe": 0, "head": 0, "full": 1_000_000}.get(arm.kind, 1_000_000 * (cell.budget or 0.01))
    line: dict[str, Any] = {
        "key": cell.key,
        "dataset": cell.dataset,
        "arm": cell.arm,
        "kind": arm.kind,
        "budget": cell.budget,
        "seed": cell.seed,
        "mask": cell.mask,
        "seconds": 60.0,
        "processor": f"Make {cell.seed}",
        "cases": {"train": 100, "val": 20, "test": len(predictions.labels)},
        "libraries": {"shpeft": "0", "torch": "2"},
        "status": "failed" if diverged else "finished",
    }
    if arm.kind not in ("probe", "revert"):
        line |= {"lr": 1e-2, "edge": cell.arm == "bad", "tuned": True, "trials": {"0.001": 0.7, "0.01": None}}
    if diverged:
        return line
    return line | {
        **{name: getattr(metrics, name).value for name in METRICS},
        "recall": [row["recall"].value for row in metrics.per_class],
        "trained": int(trained),
        "share": trained / 1e6,
        "share_with_head": trained / 1e6 + 1e-4,
        "bytes": 4096,
        "seconds_a_step": 0.1,
    }

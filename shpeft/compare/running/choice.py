"""Arms that choose one of several trained arms by its validation images, as a run with the budget ``auto`` does."""

from collections.abc import Sequence

from shpeft.compare.cells import Cell
from shpeft.compare.table import CELLS, Record, Table
from shpeft.errors import RunError
from shpeft.evaluation.by_task import validation_loss
from shpeft.evaluation.predict import Predictions
from shpeft.pipeline.budget_choice import excess_loss

OF_THE_TRAINING = (
    *("lr", "head_lr", "training", "trials", "tuned", "edge", "epoch", "epochs", "val_loss", "seconds_a_step"),
    "memory",
)
"""Parts of a record that tell how its cell was trained; a choice has none of them."""


def choose(validations: Sequence[Predictions], rule: str = "lowest") -> int:
    """Return which of several models to take.

    Args:
        validations: the predictions of each for the same validation images, simplest first.
        rule: ``lowest``: the lowest loss at its own best temperature. ``first``: the first one whose loss exceeds that
            one's by an amount of which the 95 % interval includes 0.
    """
    losses = [validation_loss(validation) for validation in validations]
    lowest = min(range(len(losses)), key=losses.__getitem__)  # of equal ones the first
    if rule == "lowest":
        return lowest
    of_lowest = validations[lowest]
    return next(n for n, v in enumerate(validations) if n == lowest or excess_loss(v, of_lowest).low <= 0)


def chosen_part(cell: Cell, table: Table) -> tuple[Record | None, Record]:
    """Return the record that a cell chooses, and the measured part of its own record.

    The seconds of every candidate count: all of them are trained. The first value is None where all of them failed.

    Raises:
        RunError: a candidate has no validation predictions.
    """
    finished = table.cells()
    records = [finished[candidate.key] for candidate in cell.candidates]
    trained = [record for record in records if record["status"] == "finished"]
    seconds = {"seconds": round(sum(record["seconds"] for record in records), 2)}
    if not trained:
        return None, {"status": "failed", "failure": "every training that it chooses among failed"} | seconds
    if lacking := next((each for each in trained if not table.has_validation(each["key"])), None):
        raise RunError(
            f"'{cell.title}' chooses by the validation images, and the finished cell {lacking['key']} of "
            f"{lacking['arm']} has no validation predictions, as cells of older versions. Remove its line from "
            f"{CELLS} and run the comparison again, or leave the arm out."
        )
    rule = cell.plan.arms[cell.arm].rule
    record = trained[choose([table.validation(each["key"]) for each in trained], rule)]
    measured = {name: value for name, value in record.items() if name not in OF_THE_TRAINING}
    return record, measured | {"chosen": record["arm"], "chosen_budget": record["budget"]} | seconds

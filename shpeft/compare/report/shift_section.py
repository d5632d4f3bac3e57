"""The report's section on shift: arms on their own test images and on further test sets."""

from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results
from shpeft.compare.report.side_by_side import side_by_side
from shpeft.compare.table import Record, Table
from shpeft.evaluation.predict import Predictions

OWN = "own test images"


class ShiftedTable(Table):
    """A table as if its cells had been tested on one of their further test sets alone."""

    def __init__(self, table: Table, name: str):
        super().__init__(table.folder, make=False)
        self._table, self._name = table, name

    def cells(self) -> dict[str, Record]:
        """Return the cells that were tested so, with their metrics under shift."""
        cells = self._table.cells()
        return {key: r | r["shifts"][self._name] for key, r in cells.items() if self._name in r.get("shifts", {})}

    def predictions(self, key: str) -> Predictions:
        """Read the probabilities of a cell under shift.

        Raises:
            RunError: they are missing or damaged.
        """
        return self._table.shifted(self._table.cells()[key], self._name)


def under_shift(bootstrap: Bootstrap) -> dict[str, Bootstrap]:
    """Return the same results on each further test set that their cells have, by its name."""
    results, datasets = bootstrap.results, tuple(bootstrap.results.plan.datasets)
    names = dict.fromkeys(name for record in results.records for name in record.get("shifts", {}))
    return {
        name: Bootstrap(Results(results.plan, ShiftedTable(results.table, name), datasets), bootstrap.resamples)
        for name in names
    }


def shift_section(bootstrap: Bootstrap) -> str:
    """Write each arm's log loss and balanced accuracy on its own test images and under shift.

    Other tasks have the measures that the page shows. Empty where no cell has further test sets.
    """
    results, shifted = bootstrap.results, under_shift(bootstrap)
    if not shifted:
        return ""
    usual = [metric for metric in ("log_loss", "balanced_accuracy") if metric in results.measures.comparable]
    parts = [
        "## Under shift",
        "The same trainings on further test images, with the temperature that their own validation images fit.",
        *(side_by_side({OWN: bootstrap} | shifted, metric) for metric in usual or results.measures.shown),
    ]
    return "\n\n".join(parts)

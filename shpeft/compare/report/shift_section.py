"""The report's section on shift: arms on their own test images and on further test sets."""

from collections.abc import Callable

from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import NONE
from shpeft.compare.report.markdown import table
from shpeft.compare.table import Record, Table
from shpeft.evaluation.predict import Predictions
from shpeft.support.formatting import METRIC_TITLES
from shpeft.support.markdown import plain

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
    sets = {OWN: bootstrap} | shifted
    usual = [metric for metric in ("log_loss", "balanced_accuracy") if metric in results.measures.comparable]
    others = [entry for entry in results.entries if entry != results.method]
    parts = [
        "## Under shift",
        "The same trainings on further test images, with the temperature that their own validation images fit. Means "
        f"over seeds and datasets; then {results.method.title} minus each other arm, with paired 95 % intervals (bold: "
        "0 is outside). The intervals are not adjusted for their number.",
    ]
    for metric in usual or results.measures.shown:

        def level(of: Bootstrap, entry: Entry, metric: str = metric) -> str:
            datasets = tuple(d for d in results.plan.datasets if of.results.rows(entry, d))
            value = of.results.mean(entry, metric, datasets) if datasets else None
            return NONE if value is None else results.scale(metric).text(value) + _coverage(results, len(datasets))

        def difference(of: Bootstrap, entry: Entry, metric: str = metric) -> str:
            comparison = of.compare(results.method, entry, metric)
            if comparison is None:
                return NONE
            text, settled = format_difference(comparison), comparison.mean.verdict in ("better", "worse")
            return (f"**{text}**" if settled else text) + _coverage(results, len(comparison.by_dataset))

        parts += [
            f"### {METRIC_TITLES[metric]} under shift, in {results.scale(metric).unit}",
            _rows("arm", sets, results.entries, level),
            _rows("against", sets, others, difference) if others else "",
        ]
    return "\n\n".join(part for part in parts if part)


def _rows(
    corner: str, sets: dict[str, Bootstrap], entries: list[Entry], cell: Callable[[Bootstrap, Entry], str]
) -> str:
    rows = [[entry.title, *(cell(of, entry) for of in sets.values())] for entry in entries]
    return table([corner, *(plain(name) for name in sets)], rows)


def _coverage(results: Results, datasets: int) -> str:
    planned = len(results.plan.datasets)
    return "" if datasets == planned else f" on {datasets} of {planned}"

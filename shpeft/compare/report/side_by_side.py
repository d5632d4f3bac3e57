"""Arms under several conditions side by side: their levels, and the method's paired differences to each other arm."""

from collections.abc import Callable, Mapping, Sequence

from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import NONE
from shpeft.compare.report.markdown import table
from shpeft.support.formatting import METRIC_TITLES
from shpeft.support.markdown import plain


def side_by_side(sets: Mapping[str, Bootstrap], metric: str) -> str:
    """Write two tables of a metric with a column for each condition: levels of arms, and differences to the method.

    Args:
        sets: the results of the same plan and task under each condition, such as further test images.
        metric: of the task.
    """
    results = next(iter(sets.values())).results
    entries = [e for e in results.planned if any(of.results.rows(e) for of in sets.values())]
    others = [entry for entry in entries if entry != results.method]
    parts = [
        f"{METRIC_TITLES[metric]}, mean over datasets and seeds, in {results.scale(metric).unit}:",
        _rows("arm", sets, entries, lambda of, entry: _level(of.results, entry, metric)),
    ]
    if others:
        parts += [
            f"{results.method.title} minus the other arm, with paired 95 % intervals (bold: 0 is outside), which are "
            "not adjusted for their number:",
            _rows("against", sets, others, lambda of, entry: _difference(of, entry, metric)),
        ]
    return "\n\n".join(parts)


def _rows(
    corner: str, sets: Mapping[str, Bootstrap], entries: Sequence[Entry], cell: Callable[[Bootstrap, Entry], str]
) -> str:
    rows = [[entry.title, *(cell(of, entry) for of in sets.values())] for entry in entries]
    return table([corner, *(plain(name) for name in sets)], rows)


def _level(results: Results, entry: Entry, metric: str) -> str:
    datasets = tuple(d for d in results.plan.datasets if results.rows(entry, d))
    value = results.mean(entry, metric, datasets) if datasets else None
    return NONE if value is None else results.scale(metric).text(value) + _coverage(results, len(datasets))


def _difference(of: Bootstrap, entry: Entry, metric: str) -> str:
    comparison = of.compare(of.results.method, entry, metric)
    if comparison is None:
        return NONE
    text, settled = format_difference(comparison), comparison.mean.verdict in ("better", "worse")
    return (f"**{text}**" if settled else text) + _coverage(of.results, len(comparison.by_dataset))


def _coverage(results: Results, datasets: int) -> str:
    planned = len(results.plan.datasets)
    return "" if datasets == planned else f" on {datasets} of {planned}"

"""The page of a report: question, setting, one table, one figure, what it means, limits; all else is the appendix."""

from collections.abc import Sequence

from shpeft import NOTICE
from shpeft.compare.analysis.formatting import format_difference
from shpeft.compare.analysis.hypotheses import Verdict, compared_with_method
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Entry, Results
from shpeft.compare.measures import LOG_LOSS, MEASURES, NONE, POINTS, SMALLER_IS_BETTER, inside
from shpeft.compare.report.markdown import table
from shpeft.compare.report.summary import plain_name, verdict_table
from shpeft.support.formatting import METRIC_TITLES, percent
from shpeft.tasks import SINGLE_LABEL

APPENDIX = "APPENDIX.md"

VERBS = {
    "better": "{better} than each of",
    "worse": "{worse} than each of",
    "tie": "is not shown to differ from any of",
    "same": "gives the same predictions as each of",
}
"""Verdicts in a sentence, in the order in which they are listed."""


def page(bootstrap: Bootstrap, figure: str = "", verdicts: Sequence[Verdict] = ()) -> str:
    """Write the page in Markdown.

    Args:
        bootstrap: the results and their replicates.
        figure: the figure in Markdown.
        verdicts: the answers to the questions, of which the page has the primary ones.
    """
    primary = [verdict for verdict in verdicts if verdict.p is not None]
    results, report = bootstrap.results, bootstrap.results.plan.report
    rows, shown = shown_entries(results), results.measures.shown
    comparisons = {(e, m): bootstrap.compare(results.method, e, m) for e in rows if e != results.method for m in shown}
    first = page_comparisons(bootstrap)
    parts = [
        f"# {report.title}",
        f"Made by `shpeft compare report` from the table beside it. {NOTICE}",
        _unfinished(results),
        f"## Question\n\n{report.question}\n\n{report.claim}".rstrip() if report.question else "",
        f"## Setting\n\n{_setting(results)}",
        f"## Decision\n\n{verdict_table(primary)}" if primary else "",
        f"## Result\n\n{_table(results, rows, comparisons)}\n\n{_reading(results)}",
        figure,
        "## What it means\n\n" + "\n".join(f"- {line}" for line in [*_sentences(results, first), *report.meaning]),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in [*_limits(results), *report.limits]),
        f"Every comparison, dataset and question is in [{APPENDIX}]({APPENDIX}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown_entries(results: Results) -> list[Entry]:
    """List the rows of the page: those of ``planned_entries`` that are finished, as soon as the method is.

    A mean over fewer runs stands beside no mean over all of them.
    """
    entries = planned_entries(results)
    finished = [entry for entry in entries if not results.pending(entry)]
    return finished if results.method in finished else entries


def planned_entries(results: Results) -> list[Entry]:
    """List what the plan names for the page, or the method and what its questions compare it with."""
    names, method = results.plan.report.rows, results.method
    if names:
        entries = [
            next((e for e in results.entries if e.arm == n and e.budget in (None, method.budget)), None) for n in names
        ]
        return [entry for entry in entries if entry is not None]
    return [*compared_with_method(results), *([method] if method in results.entries else [])]


def page_comparisons(bootstrap: Bootstrap) -> list[PairedComparison]:
    """Compare the method with the other rows of the page in the first of the shown metrics, of classes log loss."""
    results = bootstrap.results
    metric = results.measures.shown[0]
    pairs = (bootstrap.compare(results.method, e, metric) for e in shown_entries(results) if e != results.method)
    return [comparison for comparison in pairs if comparison is not None]


def _unfinished(results: Results) -> str:
    missing = len(results.missing)
    if not missing:
        return ""
    total = missing + len(results.records)
    shown = shown_entries(results)
    left_out = [_name(results, entry) for entry in planned_entries(results) if entry not in shown]
    without = f" Without {', '.join(left_out)}, which have fewer runs so far." if left_out else ""
    return f"**This is not a result yet**: {len(results.records)} of {total} cells are finished.{without}"


def _setting(results: Results) -> str:
    plan = results.plan
    cases = {record["dataset"]: record["cases"] for record in results.records}
    listed = ", ".join(f"{name} ({n['test']:,} test images)" for name, n in cases.items())
    seeds, epochs = len(plan.seeds), plan.training.epochs
    patience = plan.training.patience
    stop = f", ending after {patience} without a lower validation loss" if patience else ", all of them"
    tested = "" if plan.tested_on == "test" else " Halves of the training splits stand in for the test images."
    random = ", ".join(name for name, arm in plan.arms.items() if arm.initial_head == "random")
    initial = f"Every arm{' but ' * bool(random)}{random} starts from the same linear probe"
    return (
        f"{plan.backbone.name} at {plan.input_sizes}; {listed}; {seeds} training run{'s' * (seeds > 1)} of each; "
        f"{epochs} epochs{stop}.{tested} {initial}, and all have {_rates(results)}."
    )


def _rates(results: Results) -> str:
    number = max((len(results.grid(entry)) for entry in results.tuned), default=1)
    return "one learning rate" if number == 1 else f"the best of {number} learning rates on validation images"


def _table(
    results: Results, rows: Sequence[Entry], comparisons: dict[tuple[Entry, str], PairedComparison | None]
) -> str:
    shown = results.measures.shown
    titles = [_short(metric) for metric in shown]
    method = _name(results, results.method)
    head = [
        "method",
        "trained weights",
        *titles,
        *(f"{method} minus it, {inside(metric)}" for metric in shown),
    ]
    sign = -1 if shown[0] in SMALLER_IS_BETTER else 1
    worst_first = sorted(rows, key=lambda entry: sign * (results.mean(entry, shown[0]) or 0.0))
    body = []
    for entry in worst_first:
        differences = [comparisons.get((entry, metric)) for metric in shown]
        name = _name(results, entry)
        body.append(
            [
                f"**{name}**" if entry == results.method else name,
                f"{results.typical(entry, 'trained'):,.0f} ({percent(results.typical(entry, 'share'))})",
                *(results.scale(metric).text(results.mean(entry, metric)) for metric in shown),
                *(NONE if d is None else format_difference(d) for d in differences),
            ]
        )
    return table(head, body)


def _name(results: Results, entry: Entry) -> str:
    """Return an arm in plain words, with its name where another row has the same words."""
    plain = [plain_name(results, e).partition(" (")[0] for e in shown_entries(results)]
    full = plain_name(results, entry)
    short = full.partition(" (")[0]
    return full if plain.count(short) > 1 else short


def _short(metric: str) -> str:
    return METRIC_TITLES[metric].partition(",")[0].partition(" (")[0]


def _reading(results: Results) -> str:
    """Say what the columns are, and at which temperature the probabilities are."""
    datasets, older = results.common[1], len(results.uncalibrated)
    brackets = (
        "Brackets: 95 % intervals of paired differences over test cases and seeds, not adjusted for the number of "
        "comparisons."
    )
    if results.measures != MEASURES[SINGLE_LABEL.name]:
        return f"Mean over {_datasets(datasets)} and all seeds. {_units(results)} {brackets}"
    temperature = "at the temperature that each training's validation images fit"
    if older:
        finished = sum(record["status"] == "finished" for record in results.records)
        temperature = (
            f"at a temperature fitted to the test images of other patients, for all arms alike, because {older} of "
            f"{finished} cells stored neither validation predictions nor a temperature"
        )
    return (
        f"Mean over {len(datasets)} datasets and all seeds, in points of a hundred; of log loss (nats) and Brier score "
        f"less is better. Both are {temperature}. {brackets}"
    )


def _datasets(names: Sequence[str]) -> str:
    return "one dataset" if len(names) == 1 else f"{len(names)} datasets"


def _units(results: Results) -> str:
    """Say in which unit each column is, of which less is better, and at which temperature probabilities are."""
    shown = results.measures.shown
    units: dict[str, list[str]] = {}
    for metric in shown:
        units.setdefault(results.scale(metric).unit, []).append(inside(metric))
    lines = [
        f"{' and '.join(names)} in {unit}{' of a hundred' * (unit == POINTS.unit)}" for unit, names in units.items()
    ]
    listed = "; ".join(lines)
    less = [inside(metric) for metric in shown if metric in SMALLER_IS_BETTER]
    text = f"{listed[0].upper()}{listed[1:]}" + (f"; of {' and '.join(less)} less is better." if less else ".")
    if LOG_LOSS in shown:
        text += " Log loss (nats) is at the temperatures that each training's validation images fit."
    return text


def _sentences(results: Results, comparisons: Sequence[PairedComparison]) -> list[str]:
    lines = []
    metric = results.measures.shown[0]
    claims = {"better": "is better", "worse": "is worse"}
    if metric == LOG_LOSS:
        claims = {"better": "has better probabilities", "worse": "has worse probabilities"}
    for verdict, verb in VERBS.items():
        others = [c for c in comparisons if c.mean.verdict == verdict]
        if others:
            listed = "; ".join(f"{_name(results, c.other)} ({format_difference(c)})" for c in others)
            lines.append(
                f"In this setting {_name(results, results.method)} {verb.format(**claims)} the following (its "
                f"{inside(metric)} minus theirs, in {results.scale(metric).unit}): {listed}."
            )
    return lines


def _limits(results: Results) -> list[str]:
    """Write the limits that the records show: trainings that stopped early, processors, grids, missing temperatures."""
    plan, lines = results.plan, []
    trained = [r for r in results.records if r.get("epochs") and r["status"] == "finished"]
    short = [r for r in trained if r["epochs"] < plan.settings(plan.arms[r["arm"]]).epochs]
    if short:
        own = [r for r in short if r["arm"] == results.method.arm]
        all_own = [r for r in trained if r["arm"] == results.method.arm]
        lines.append(
            f"{len(short)} of {len(trained)} trainings, of the method's {len(own)} of {len(all_own)}, ended before "
            "their last epoch, because the validation loss had not fallen for a while. The learning rate had not come "
            "down then, so they do not tell what their whole schedule reaches."
        )
    makers = {r["processor"] for r in results.rows(results.method) if "processor" in r}
    others = {r["processor"] for e in shown_entries(results) for r in results.rows(e) if "processor" in r}
    if len(makers | others) > 1:
        lines.append(
            f"The trainings of these rows are of {len(makers | others)} makes of processor "
            f"({', '.join(sorted(makers | others))}), the method's of {', '.join(sorted(makers))}: single trainings "
            "differ between makes."
        )
    if weak := [e.title for e in shown_entries(results) if 2 * len(results.edges(e)) >= len(plan.datasets)]:
        lines.append(
            f"For {', '.join(weak)} the best learning rate is at an edge of the grid on at least half of the datasets."
        )
    seeds = len(plan.seeds)
    lines.append(f"{len(plan.datasets)} datasets and {seeds} seed{'s' * (seeds > 1)}: a tie is no proof of equality.")
    return lines

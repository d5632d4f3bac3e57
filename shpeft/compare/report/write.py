"""Write a report's files: RESULTS.md, the table as CSV, the figures, and the overlaps."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shpeft.compare.analysis.hypotheses import method_verdicts
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Results, results_by_task
from shpeft.compare.analysis.retained_gain import retained_gains, retention_verdicts
from shpeft.compare.analysis.support_overlap import MagnitudeAgreement, PrecisionAtK, SupportPair, compare_supports
from shpeft.compare.measures import inside
from shpeft.compare.plan import Plan
from shpeft.compare.report.budget_section import budget_section
from shpeft.compare.report.document import report
from shpeft.compare.report.figures import differences, draw_figures
from shpeft.compare.report.page import APPENDIX, page, page_comparisons
from shpeft.compare.report.shift_section import shift_section
from shpeft.compare.report.side_by_side import side_by_side
from shpeft.compare.report.sparsity_hybridity import hybridity_section, sparsity_section
from shpeft.compare.table import Table
from shpeft.errors import RunError
from shpeft.figures import save
from shpeft.support.atomic_files import write_atomic
from shpeft.support.progress import Progress, silent

OVERLAPS = "overlaps.json"


def write_report(plan: Plan, out: str | Path, *, to: str | Path | None = None, resamples: int = 2000) -> Path:
    """Write ``RESULTS.md``, ``APPENDIX.md``, ``table.csv`` and ``figures/`` from a table, which may be incomplete.

    ``RESULTS.md`` is one page; the appendix has every comparison, dataset and question.

    Args:
        plan: what is compared.
        out: the table's folder.
        to: the folder to write into; by default the table's.
        resamples: number of bootstrap resamples.

    Returns:
        The path of ``RESULTS.md``.

    Raises:
        RunError: the table has no finished cell of this plan, or is damaged; or there are primary questions and several
            parts.
    """
    table = Table(out, make=False)
    groups, overlaps = results_by_task(plan, table), read_overlaps(table.folder)
    folder = Path(to) if to else table.folder
    several = len(groups) > 1
    if several and any(question.primary for question in plan.report.questions):
        raise RunError(
            "The plan has primary questions, whose p values are adjusted together, and its report has "
            f"{len(groups)} parts, one for each task and number of training images. Leave 'primary' out, or write a "
            "plan for each part."
        )
    bootstraps = [Bootstrap(results, resamples) for results in groups]
    parts = [
        _write_part(
            bootstrap,
            folder,
            overlaps if number == 1 else None,
            f"{number}_{bootstrap.results.task.name}" * several,
        )
        for number, bootstrap in enumerate(bootstraps, 1)
    ]
    write_atomic(folder / "table.csv", as_csv(groups))
    pages, appendices = zip(*parts, strict=True)
    if several:
        headings = [results.heading for results in groups]
        appendix = by_task(f"Appendix: {plan.report.title}", headings, appendices)
        on_page = by_task(plan.report.title, headings, pages, by_images(bootstraps))
    else:
        on_page, appendix = pages[0], appendices[0]
    write_atomic(folder / APPENDIX, appendix)
    return write_atomic(folder / "RESULTS.md", on_page)


def _write_part(
    bootstrap: Bootstrap, folder: Path, overlaps: tuple[list[SupportPair], MagnitudeAgreement | None] | None, name: str
) -> tuple[str, str]:
    """Return the page and the appendix of the datasets of one task, and write their figures.

    Args:
        bootstrap: the results of these datasets.
        folder: of the report.
        overlaps: of the supports of all datasets; None: another part has them.
        name: of the folder of the figures, in that of the report's figures; empty: this one.
    """
    results, (pairs, magnitude) = bootstrap.results, overlaps or ([], None)
    comparisons, gains = bootstrap.compare_all(), retained_gains(bootstrap)
    drawn = draw_figures(bootstrap, comparisons, gains, pairs)
    first = results.measures.shown[0]
    caption = f"{results.method.title} minus other arms in {inside(first)}, 95 % intervals."
    drawn[first] = caption, differences(page_comparisons(bootstrap))
    paths = save({name: figure for name, (_, figure) in drawn.items()}, folder / "figures" / name)
    links = []
    for figure, (caption, _) in drawn.items():
        path = paths[figure].relative_to(folder)
        links.append(f"![{caption}]({path})\n\n{caption}" if path.suffix == ".svg" else f"[{caption}]({path})")
    page_figure = links.pop()
    sections = [
        budget_section(bootstrap),
        shift_section(bootstrap),
        "## Figures\n\n" + "\n\n".join(links),
        sparsity_section(results, gains),
        "" if overlaps is None else hybridity_section(results, pairs, magnitude),
    ]
    verdicts, retention = method_verdicts(bootstrap, comparisons), retention_verdicts(results, gains)
    return page(bootstrap, page_figure, verdicts), report(bootstrap, comparisons, verdicts, retention, sections)


def by_images(bootstraps: Sequence[Bootstrap]) -> str:
    """Write the measures that the page shows by the number of training images; empty where there is one number."""
    tasks: dict[str, dict[str, Bootstrap]] = {}
    for bootstrap in bootstraps:
        if (images := bootstrap.results.images) is not None:
            tasks.setdefault(bootstrap.results.task_heading, {})[f"{images} a class"] = bootstrap
    parts = ["## By the number of training images"]
    for heading, columns in tasks.items():
        results = next(iter(columns.values())).results
        parts += [f"### {heading}"] * (len(tasks) > 1)
        parts += [side_by_side(columns, m) for m in dict.fromkeys((results.metric, *results.measures.shown))]
    return "\n\n".join(parts) if tasks else ""


def by_task(title: str, headings: Sequence[str], parts: Sequence[str], lead: str = "") -> str:
    """Join several reports into one: each under its heading, with its own headings a level lower.

    Args:
        title: of all.
        headings: of each, its task and its number of training images.
        parts: the reports.
        lead: what stands before them.
    """
    lowered = []
    for heading, part in zip(headings, parts, strict=True):
        lines = part.rstrip().splitlines()[1:]
        lowered.append("\n".join([f"## {heading}", *(f"#{line}" if line.startswith("#") else line for line in lines)]))
    listed = "; ".join(heading.lower() for heading in headings)
    note = f"There are {len(parts)} parts ({listed}), whose measures have no common mean: each by itself."
    return "\n\n".join([f"# {title}", note, *filter(None, [lead]), *lowered]) + "\n"


def write_overlaps(plan: Plan, out: str | Path, *, root: str | Path = ".", progress: Progress = silent) -> Path:
    """Compute the overlaps that a plan asks for, and write them beside the table for the report."""
    pairs, magnitude = compare_supports(plan, out, root=root, progress=progress)
    overlaps = {"pairs": [asdict(pair) for pair in pairs], "foretold": asdict(magnitude) if magnitude else None}
    return write_atomic(Table(out).folder / OVERLAPS, json.dumps(overlaps, indent=1))


def as_csv(groups: Sequence[Results]) -> str:
    """Return the results of all tasks as CSV, a row for each cell; lists and mappings are in JSON."""
    records = (record for results in groups for record in results.records)
    rows = [{k: v for k, v in record.items() if k != "libraries"} for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
    return buffer.getvalue()


def read_overlaps(folder: str | Path) -> tuple[list[SupportPair], MagnitudeAgreement | None]:
    """Read the overlaps in a table's folder; empty where ``write_overlaps`` was not called yet.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(folder) / OVERLAPS
    if not path.exists():
        return [], None
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pairs = [
            SupportPair(**pair | {"layers": {name: tuple(counts) for name, counts in pair["layers"].items()}})
            for pair in raw["pairs"]
        ]
        return pairs, _magnitude(raw["foretold"]) if raw["foretold"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path.name} of the table cannot be read ({error}). Compute it again with `shpeft compare overlaps`."
        ) from None


def _magnitude(raw: dict[str, Any]) -> MagnitudeAgreement:
    by_layer = {
        budget: {name: PrecisionAtK(**of) for name, of in layers.items()}
        for budget, layers in raw["precision_by_layer"].items()
    }
    precision = {budget: PrecisionAtK(**of) for budget, of in raw["precision"].items()}
    return MagnitudeAgreement(**raw | {"precision": precision, "precision_by_layer": by_layer})

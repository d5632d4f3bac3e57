"""The report's files: RESULTS.md, the raw table as CSV, the figures, and the overlaps that it takes up."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shpeft.compare import claims
from shpeft.compare.budgets import budgets_section
from shpeft.compare.duels import Bootstrap
from shpeft.compare.overlaps import Foretold, Pair, Precision, compare_supports
from shpeft.compare.paper import hybridity_section, sparsity_section
from shpeft.compare.pictures import pictures
from shpeft.compare.plan import Plan
from shpeft.compare.report import report
from shpeft.compare.results import Results
from shpeft.compare.table import Table
from shpeft.errors import RunError
from shpeft.figures import save
from shpeft.files import write_atomic
from shpeft.progress import Progress, silent

OVERLAPS = "overlaps.json"


def write_report(plan: Plan, out: str | Path, *, to: str | Path | None = None, resamples: int = 2000) -> Path:
    """Write ``RESULTS.md``, ``table.csv`` and ``figures/``, as far as the table in the folder ``out`` is filled.

    Args:
        to: another folder to write into.

    Raises:
        RunError: the table holds nothing of this plan, or what it holds is damaged.
    """
    bootstrap = Bootstrap(results := Results(plan, Table(out, make=False)), resamples)
    duels, kept = bootstrap.duels(), claims.kept(bootstrap)
    goals = claims.goals(bootstrap, duels)
    pairs, foretold = read_overlaps(results.table.folder)
    folder = Path(to) if to else results.table.folder
    drawn = pictures(bootstrap, duels, kept, pairs)
    paths = save({name: figure for name, (_, figure) in drawn.items()}, folder / "figures")
    shown = []
    for name, (caption, _) in drawn.items():
        path = paths[name].relative_to(folder)
        shown.append(f"![{caption}]({path})\n\n{caption}" if path.suffix == ".svg" else f"[{caption}]({path})")
    write_atomic(folder / "table.csv", as_csv(results))
    more = [
        budgets_section(bootstrap),
        "## Figures\n\n" + "\n\n".join(shown),
        sparsity_section(results, kept),
        hybridity_section(results, pairs, foretold),
    ]
    return write_atomic(folder / "RESULTS.md", report(bootstrap, duels, goals, claims.sparsity(results, kept), more))


def write_overlaps(plan: Plan, out: str | Path, *, root: str | Path = ".", progress: Progress = silent) -> Path:
    """Compute the overlaps that a plan asks for, and keep them for the report."""
    pairs, foretold = compare_supports(plan, out, root=root, progress=progress)
    found = {"pairs": [asdict(pair) for pair in pairs], "foretold": asdict(foretold) if foretold else None}
    return write_atomic(Table(out).folder / OVERLAPS, json.dumps(found, indent=1))


def as_csv(results: Results) -> str:
    """A row a finished cell; what is a list or a mapping stands in its JSON form."""
    rows = [{k: v for k, v in record.items() if k != "libraries"} for record in results.records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
    return buffer.getvalue()


def read_overlaps(folder: str | Path) -> tuple[list[Pair], Foretold | None]:
    """What ``write_overlaps`` kept in a table's folder; nothing where it was not called yet.

    Raises:
        RunError: it cannot be read.
    """
    path = Path(folder) / OVERLAPS
    if not path.exists():
        return [], None
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pairs = [Pair(**pair | {"layers": {k: tuple(v) for k, v in pair["layers"].items()}}) for pair in raw["pairs"]]
        return pairs, _foretold(raw["foretold"]) if raw["foretold"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path.name} of the table cannot be read ({error}). Make it anew with `shpeft compare overlaps`."
        ) from None


def _foretold(raw: dict[str, Any]) -> Foretold:
    by_layer = {
        budget: {name: Precision(**of) for name, of in layers.items()}
        for budget, layers in raw["precision_by_layer"].items()
    }
    precision = {budget: Precision(**of) for budget, of in raw["precision"].items()}
    return Foretold(**raw | {"precision": precision, "precision_by_layer": by_layer})

"""The report's files: RESULTS.md, the raw table as CSV, the figures, and the overlaps that it takes up."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shpeft.compare.overlaps import Foretold, Pair, compare_supports, grouped
from shpeft.compare.pictures import pictures
from shpeft.compare.plan import Plan
from shpeft.compare.report import markdown, report
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
    results = Results(plan, Table(out))
    duels = results.duels(resamples)
    pairs, foretold = _read_overlaps(results.table.folder / OVERLAPS)
    folder = Path(to) if to else results.table.folder
    drawn = pictures(results, duels, pairs)
    paths = save({name: figure for name, (_, figure) in drawn.items()}, folder / "figures")
    shown = []
    for name, (caption, _) in drawn.items():
        path = paths[name].relative_to(folder)
        shown.append(f"![{caption}]({path})\n\n{caption}" if path.suffix == ".svg" else f"[{caption}]({path})")
    write_atomic(folder / "table.csv", as_csv(results))
    more = ["## Figures\n\n" + "\n\n".join(shown), overlap_section(pairs, foretold)]
    return write_atomic(folder / "RESULTS.md", report(results, duels, more=more))


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


def overlap_section(pairs: list[Pair], foretold: Foretold | None) -> str:
    """The overlaps in Markdown, a row for all pairs of a kind; nothing where none were computed."""
    if not pairs:
        return ""
    matrices = list(dict.fromkeys(name for pair in pairs for name in pair.layers))
    rows, layers = [], []
    for title, group in grouped(pairs).items():
        shares, p = [pair.share for pair in group], max(pair.p for pair in group)
        rows.append(
            [
                title,
                len(group),
                f"{np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})",
                f"{np.mean([pair.expected / pair.k for pair in group]):.2g}",
                f"{p:.2g}" if p else "< 1e-300",
                _beyond([counts for pair in group for counts in pair.layers.values()]),
            ]
        )
        by_matrix = [[pair.layers[name] for pair in group if name in pair.layers] for name in matrices]
        layers.append([title, *map(_beyond, by_matrix)])
    head = ["choices", "pairs", "shared", "by chance", "largest p", "beyond each layer's own chance"]
    text = (
        f"## Do they choose the same weights?\n\n{markdown(head, rows)}\n\nShared weights as a fraction of the budget, "
        "mean over pairs and their range; chance and p are those of random choices among all eligible weights "
        "(hypergeometric). The last column sets the shared weights against those of random choices with the same "
        f"counts in each layer; by kind of matrix:\n\n{markdown(['choices', *matrices], layers)}"
    )
    return f"{text}\n\n{_foretold(foretold)}" if foretold else text


def _beyond(counts: list[tuple[int, float]]) -> str:
    """How many times as many weights are shared as chance gives in the same layers."""
    expected = sum(chance for _, chance in counts)
    return f"{sum(shared for shared, _ in counts) / expected:.3g} ×" if expected else "–"


def _foretold(found: Foretold) -> str:
    aurocs = ", ".join(f"{value:.3f} at a budget of {budget}" for budget, value in found.auroc.items())
    inside = markdown(["matrix", "rank correlation"], [[m, f"{v:+.3f}"] for m, v in found.by_matrix.items()])
    return (
        "### Does magnitude foretell what the tasks agree on?\n\nSpearman's rank correlation of the magnitude with the "
        f"mean of all tasks' normalised gradients: {found.correlation:+.3f}. AUROC of the magnitude as a test for "
        f"being among the consensus' best: {aurocs} (0.5 is chance). Within single parameters, mean by kind:\n\n"
        f"{inside}"
    )


def _read_overlaps(path: Path) -> tuple[list[Pair], Foretold | None]:
    if not path.exists():
        return [], None
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pairs = [Pair(**pair | {"layers": {k: tuple(v) for k, v in pair["layers"].items()}}) for pair in raw["pairs"]]
        return pairs, Foretold(**raw["foretold"]) if raw["foretold"] else None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path.name} of the table cannot be read ({error}). Make it anew with `shpeft compare overlaps`."
        ) from None

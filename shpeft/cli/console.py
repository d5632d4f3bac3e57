"""What the command line prints: progress, numbers beside each other, and the table of blocks and matrices."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from shpeft import NOTICE
from shpeft.progress import Eta, Progress
from shpeft.runs.card import METRICS, interval, percent
from shpeft.runs.formats import plain

if TYPE_CHECKING:
    from shpeft.overlaps import Overlap
    from shpeft.summaries import LayerSummary
    from shpeft.trust import Trust

QUANTITIES: dict[str, Callable[["LayerSummary"], str]] = {
    "selected": lambda layer: f"{layer.selected:,}",
    "density": lambda layer: percent(layer.density),
    "mean": lambda layer: f"{layer.mean:.2g}",
    "maximum": lambda layer: f"{layer.maximum:.2g}",
}

BAND = {"maximum": "top probability", "threshold": "probability of the positive class"}


@contextmanager
def progress_bar(stages: bool = True) -> Iterator[tuple[Progress, Callable[[object], None]]]:
    """A bar with the time that is left, on standard error; yields its progress and a way to print above it.

    Where standard error is no terminal each stage is a line, if ``stages`` says so.
    """
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[left]}"),
    )
    eta, last = Eta(), [""]
    with rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Starting", total=None, left="")

        def progress(stage: str, done: int, total: int) -> None:
            left = eta.update(done, total)
            bar.update(task, description=stage, completed=done, total=total or None, left=duration(left))
            if stages and stage != last[0] and not console.is_terminal:
                console.print(stage)
            last[0] = stage

        yield progress, lambda line: console.print(str(line), soft_wrap=True)


def duration(seconds: float | None) -> str:
    """``1:05 left``, or nothing while nobody knows."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, the first to the left and the others to the right; the header may be empty."""
    cells = [[str(cell) for cell in row] for row in [header, *rows] if row]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        typer.echo("  ".join([row[0].ljust(widths[0]), *parts]).rstrip())


def as_json(value: Any) -> None:
    """Print for a machine."""
    typer.echo(json.dumps(plain(value), indent=1, ensure_ascii=False))


def results(
    metrics: Mapping[str, Any], names: Sequence[str] = ("accuracy", "balanced_accuracy", "macro_auroc")
) -> None:
    """Print a run's test metrics beside the linear probe's, with the paired difference."""
    table(
        ["", "fine-tuned", "linear probe", "difference"],
        [
            [
                METRICS[name],
                interval(metrics["finetuned"][name]),
                interval(metrics["probe"][name]),
                interval(metrics["difference"][name], sign=True),
            ]
            for name in names
        ],
    )
    weights = metrics["weights"]
    typer.echo(
        f"{metrics['finetuned']['cases']} test images, 95 % bootstrap intervals, paired differences.\n"
        f"Trained weights: {weights['selected']:,} of {weights['backbone']:,}: backbone {percent(weights['share'])}, "
        f"with head {percent(weights['share_with_head'])}. Delta file: {weights['delta_bytes'] / 1024:.1f} KiB."
    )


def one_model(found: Mapping[str, Any]) -> None:
    """Print the metrics of one model, and of each class."""
    table(["", "fine-tuned"], [[title, interval(found[name])] for name, title in METRICS.items()])
    typer.echo()
    table(
        ["class", "cases", "recall", "AUROC"],
        [[row["name"], row["cases"], interval(row["recall"]), interval(row["auroc"])] for row in found["per_class"]],
    )


def trust(found: "Trust") -> None:
    """Print what the validation images say about a model, and what became of it on the test images."""
    test = found.test
    errors = [("validation", found.validation)] + ([] if test is None else [("test", test.calibration)])
    fitted = found.calibration
    low, high = fitted.interval
    typer.echo(f"Temperature {fitted.temperature:.3f} [{low:.3f}, {high:.3f}], from {fitted.cases} validation images")
    table(
        ["calibration error", "images", "before", "after"],
        [[name, e.cases, interval(plain(e.ece_before)), interval(plain(e.ece_after))] for name, e in errors],
    )
    if found.operating is not None:
        rule, threshold = found.operating.rule, found.operating.threshold
        typer.echo(f"\nThreshold for {rule.positive} ({rule.rule}): {threshold:.4f}")
        rates = [("validation", found.operating.validation)]
        rates += [] if test is None or test.operating is None else [("test", test.operating)]
        table(["", "sensitivity", "specificity"], [[name, r.sensitivity, r.specificity] for name, r in rates])
    sets = found.sets
    typer.echo(
        f"\nPrediction sets ({sets.rule.method.upper()}{', by class' * sets.rule.by_class}) for a coverage of "
        f"{sets.rule.coverage:.0%}; with these validation images it lies between {sets.expected[0]:.0%} and "
        f"{sets.expected[1]:.0%}"
    )
    if test is not None:
        typer.echo(f"  on the test images {test.coverage.covered}; {test.coverage.mean_size:.2f} classes on average")
    for caution in sets.cautions:
        typer.echo(f"  Caution: {caution}")
    if found.abstention is not None:
        low, high = found.abstention.band
        typer.echo(f"\nAbstains where the {BAND[found.abstention.rule.on]} lies between {low:.3f} and {high:.3f}")
        shares = [("validation", found.abstention.validation)]
        shares += [] if test is None or test.abstention is None else [("test", test.abstention)]
        table(["", "answered", "of those wrong"], [[name, a.coverage, a.risk] for name, a in shares])


def judged(entry: Mapping[str, Any]) -> None:
    """Print one image's diagnosis: every class's probability, and what stands behind it."""
    typer.echo(f"{entry['id']}: {entry['predicted']}")
    judgement, names = entry["judgement"], list(entry["probabilities"])
    shown = judgement["probabilities"] if judgement else list(entry["probabilities"].values())
    counts = judgement["validation_counts"] if judgement else []
    rows = [
        [f"  {name}", f"{100 * p:.1f} %", _behind(counts, at)]
        for at, (name, p) in enumerate(zip(names, shown, strict=True))
    ]
    table([], [rows[at] for at in sorted(range(len(rows)), key=lambda at: -shown[at])])
    if judgement is None:
        typer.echo("  The probabilities are not calibrated.")
    else:
        _rules(judgement)
    if entry["novelty"] and entry["novelty"]["alarm"]:
        typer.echo(
            f"  Warning: this image looks unlike the training images (more unusual than "
            f"{entry['novelty']['percentile']:.0%} of the validation images)."
        )


def _behind(counts: Sequence[Mapping[str, Any]], at: int) -> str:
    if not counts:
        return ""
    return f"{counts[at]['with_the_class']} of {counts[at]['cases']} such validation images"


def _rules(judgement: Mapping[str, Any]) -> None:
    """What threshold, prediction set and abstain band say."""
    call, found = judgement["threshold"], judgement["prediction_set"]
    if call:
        rates = [call["validation_sensitivity"], call["validation_specificity"]]
        typer.echo(
            f"  {'Positive' if call['positive'] else 'Negative'} for {call['positive_class']} at the threshold "
            f"{call['threshold']:.3f} (validation sensitivity {interval(rates[0])}, specificity {interval(rates[1])})"
        )
    typer.echo(f"  Prediction set at a coverage of {found['coverage']:.0%}: {', '.join(found['classes'])}")
    if judgement["abstain"]:
        typer.echo("  Abstain: the model is too unsure of this image; leave it to people.")


def blocks(summaries: "Sequence[LayerSummary]", quantity: str) -> None:
    """Print a quantity for each block (a row) and matrix (a column); what has no value stays empty."""
    rows: dict[str, dict[str, str]] = {}
    for layer in summaries:
        rows.setdefault(layer.block, {})[layer.matrix.removesuffix(".weight")] = QUANTITIES[quantity](layer)
    columns = list(dict.fromkeys(matrix for row in rows.values() for matrix in row))
    table([quantity, *columns], [[block, *(row.get(column, "") for column in columns)] for block, row in rows.items()])


def overlaps(title: str, found: "Overlap") -> None:
    """Print how far two choices agree, and what chance would give."""
    typer.echo(
        f"{title}: {found.intersection:,} shared of {found.a:,} and {found.b:,} (among {found.eligible:,} eligible)\n"
        f"  Jaccard {found.jaccard:.4f}, by chance {found.chance_jaccard:.4f}\n"
        f"  containment {found.containment:.4f}; chance shares {found.chance:.2f}, at most {found.chance_high} "
        f"in 97.5 % of cases; p = {found.p_value:.2g}"
    )


def card(found: Mapping[str, Any]) -> None:
    """Print a dataset's card; damaged files are named, for whoever owns them."""
    classes = list(found["classes"])
    typer.echo(f"{found['name']}" + (f" ({found['modality']})" if found.get("modality") else ""))
    table(["", *classes], [[split, *(counts[c] for c in classes)] for split, counts in found["counts"].items()])
    typer.echo(f"Split: {found['split_rule']}")
    for name, reason in found["unreadable"]:
        typer.echo(f"Left out: {name}: {reason}")
    for warning in found["warnings"]:
        typer.echo(f"Warning: {warning}")
    if found.get("notice"):
        typer.echo(found["notice"])
    typer.echo(f"Fingerprint: {found['fingerprint']}")


def notice() -> None:
    """Print what every diagnosis must carry."""
    typer.echo(NOTICE)

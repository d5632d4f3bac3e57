"""What the command line prints: progress, metrics, and the table of blocks and matrices."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shpeft import NOTICE
from shpeft.support.formatting import MAIN, TITLES, class_table, interval, metrics_of_task, percent, probability
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Eta, Progress

if TYPE_CHECKING:
    from shpeft.diagnosis import Diagnosis
    from shpeft.evaluation import AnyReliability, IntervalReliability, Reliability
    from shpeft.importance.layer_summaries import LayerSummary
    from shpeft.selection.overlap import Overlap

QUANTITIES: dict[str, Callable[["LayerSummary"], str]] = {
    "selected": lambda layer: f"{layer.selected:,}",
    "density": lambda layer: percent(layer.density),
    "mean": lambda layer: f"{layer.mean:.2g}",
    "maximum": lambda layer: f"{layer.maximum:.2g}",
}

BAND = {"maximum": "top probability", "threshold": "probability of the positive class"}


@contextmanager
def progress_bar(stages: bool = True) -> Iterator[tuple[Progress, Callable[[object], None]]]:
    """Show a bar with the time left on standard error; yield its progress callback and a way to print above it.

    Args:
        stages: print each stage as a line where standard error is not a terminal.
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
    """Return ``1:05 left``, or nothing while the time is unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, the first on the left and the others on the right; the header may be empty."""
    cells = [[str(cell) for cell in row] for row in [header, *rows] if row]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *parts]).rstrip())


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(to_jsonable(value), indent=1, ensure_ascii=False))


def results(metrics: Mapping[str, Any], names: Sequence[str] = ("accuracy", *MAIN)) -> None:
    """Print a run's test metrics beside the linear probe's, with the paired difference."""
    table(
        ["", "fine-tuned", "linear probe", "difference"],
        [
            [
                TITLES[name],
                interval(metrics["finetuned"][name]),
                interval(metrics["probe"][name]),
                interval(metrics["difference"][name], sign=True),
            ]
            for name in names
            if name in metrics["finetuned"]
        ],
    )
    weights = metrics["weights"]
    print(
        f"{metrics['finetuned']['cases']} test images, 95 % bootstrap intervals, paired differences.\n"
        f"Trained weights: {weights['selected']:,} of {weights['backbone']:,}: backbone {percent(weights['share'])}, "
        f"with head {percent(weights['share_with_head'])}. Delta file: {weights['delta_bytes'] / 1024:.1f} KiB."
    )


def evaluation(run: str, metrics: Mapping[str, Any]) -> None:
    """Print the metrics of a run on a set of images: what limits them first, then both models and the internal test."""
    tuned = metrics["finetuned"]
    which = f"all {tuned['cases']:,}" if metrics["external"] else f"{tuned['cases']:,} test"
    print(f"{run} on {which} images of {metrics['dataset']}")
    for warning in metrics["warnings"]:
        print(f"Warning: {warning}")
    header, columns = ["", "fine-tuned"], [(tuned, False)]
    if "probe" in metrics:
        header += ["linear probe", "difference"]
        columns += [(metrics["probe"], False), (metrics["difference"], True)]
    if metrics["external"]:
        header += ["internal test", "external - internal"]
        columns += [(metrics["internal"], False), (metrics["drop"], True)]
    table(
        header,
        [[title, *(interval(c[name], sign=s) for c, s in columns)] for name, title in metrics_of_task(tuned).items()],
    )
    print()
    if rows := class_table(tuned.get("per_class", ())):
        table(list(rows[0]), [list(row.values()) for row in rows])
    elif tuned.get("unit"):
        print(f"Errors are in {tuned['unit']}.")
    print("95 % bootstrap intervals by patient or group; differences of the same images are paired.")


def any_reliability(result: "AnyReliability") -> None:
    """Print a model's calibration and decision rules, of findings one after the other."""
    from shpeft.evaluation import IntervalReliability

    if isinstance(result, IntervalReliability):
        interval_reliability(result)
    for name, part in result.parts.items():
        if name:
            print(f"== {name} ==")
        reliability(part)


def interval_reliability(result: "IntervalReliability") -> None:
    """Print the prediction interval of a regression, and what it holds on the test images."""
    print(f"{result.headline}\n")
    print(
        f"{result.rules.coverage:.0%} prediction interval: {result.shown_width}, from {result.cases} validation images"
    )
    for caution in result.cautions:
        print(caution)
    if result.test is not None and result.test.gate is not None:
        for sentence in result.test.gate.sentences:
            print(sentence)


def reliability(result: "Reliability") -> None:
    """Print a model's calibration and decision rules on the validation images, and their effect on the test images."""
    test = result.test
    print(f"{result.headline}\n")
    errors = [("validation", result.validation)] + ([] if test is None else [("test", test.calibration)])
    fitted = result.calibration
    low, high = fitted.interval
    print(f"Temperature {fitted.temperature:.3f} [{low:.3f}, {high:.3f}], from {fitted.cases} validation images")
    table(
        ["calibration error", "images", "before", "after"],
        [
            [name, e.cases, interval(to_jsonable(e.ece_before)), interval(to_jsonable(e.ece_after))]
            for name, e in errors
        ],
    )
    if result.operating is not None:
        rule, threshold = result.operating.rule, result.operating.threshold
        print(f"\nThreshold for {rule.positive} ({rule.rule}): {threshold:.4f}")
        rates = [("validation", result.operating.validation)]
        rates += [] if test is None or test.operating is None else [("test", test.operating)]
        table(["", "sensitivity", "specificity"], [[name, r.sensitivity, r.specificity] for name, r in rates])
        if result.operating.bound is not None:
            print(result.operating.bound.sentence)
    sets = result.sets
    print(
        f"\nStill possible: prediction sets ({sets.rule.method.upper()}{', for each class' * sets.rule.by_class}) for "
        f"a coverage of {sets.rule.coverage:.0%}; with these validation images it lies between "
        f"{sets.expected[0]:.0%} and {sets.expected[1]:.0%}"
    )
    if test is not None:
        counts = "; ".join(f"{name}: {share.counts}" for name, share in test.coverage.by_class.items())
        print(f"  on the test images {counts}; {test.coverage.mean_size:.2f} classes on average")
    for caution in sets.cautions:
        print(f"  Caution: {caution}")
    if result.abstention is not None:
        low, high = result.abstention.band
        print(f"\nAbstains where the {BAND[result.abstention.rule.on]} lies between {low:.3f} and {high:.3f}")
        shares = [("validation", result.abstention.validation)]
        shares += [] if test is None or test.abstention is None else [("test", test.abstention)]
        table(["", "answered", "wrong among them"], [[name, a.coverage, a.risk] for name, a in shares])
        if result.abstention.bound is not None:
            print(result.abstention.bound.sentence)
    if test is not None and test.gate is not None:
        print("\nOn the test images:")
        for sentence in test.gate.sentences:
            print(f"  {sentence}")


def dicom_files(entry: Mapping[str, Any], folder: object) -> None:
    """Print which results in DICOM were written, and what is not among them."""
    print(f"  {len(entry['files'])} DICOM files in {folder}: {', '.join(entry['files'])}")
    for sentence in entry["omitted"]:
        print(f"  {sentence}")


def headline(result: "AnyReliability | None") -> None:
    """Print what a model achieves, in counts, and what can be promised; nothing for a run of an older version."""
    if result is None:
        return
    print(result.headline)
    for part in result.parts.values():
        if part.operating is not None and part.operating.bound is not None:
            print(part.operating.bound.sentence)


def diagnosis(name: str, result: "Diagnosis") -> None:
    """Print the answer to an image, or why there is none, with the counts behind it and the other classes."""
    answer, case = result.answer, result.reliability
    for caution in result.cautions:
        print(f"{name}: {caution}")
    print(f"{name}: {answer.headline}")
    for reason in answer.reasons:
        print(f"  {reason}")
    if not answer.given:
        print(f"  Not an answer, only what the model computed: {answer.decision}.")
    for sentence in answer.sentences:
        print(f"  {sentence}")
    if result.estimate is not None:
        return
    if not result.calibrated:
        print("  The probabilities are not calibrated.")
    evidence = dict(zip(result.classes, () if case is None else case.evidence, strict=False))
    counts = {c: f"{bin.observed.counts} such validation images" for c, bin in evidence.items()}
    table([], [[f"  {c}", probability(p), counts.get(c, "")] for c, p in result.ranked()])


def blocks(summaries: "Sequence[LayerSummary]", quantity: str) -> None:
    """Print a quantity for each block (a row) and matrix (a column); cells without a value stay empty."""
    rows: dict[str, dict[str, str]] = {}
    for layer in summaries:
        rows.setdefault(layer.block, {})[layer.matrix.removesuffix(".weight")] = QUANTITIES[quantity](layer)
    columns = list(dict.fromkeys(matrix for row in rows.values() for matrix in row))
    table([quantity, *columns], [[block, *(row.get(column, "") for column in columns)] for block, row in rows.items()])


def overlaps(title: str, result: "Overlap") -> None:
    """Print how far two selections agree, and how far by chance."""
    print(
        f"{title}: {result.intersection:,} shared of {result.a:,} and {result.b:,} "
        f"(among {result.eligible:,} eligible)\n"
        f"  Jaccard {result.jaccard:.4f}, by chance {result.chance_jaccard:.4f}\n"
        f"  containment {result.containment:.4f}; chance shares {result.chance:.2f}, at most {result.chance_high} "
        f"in 97.5 % of cases; p = {result.p_value:.2g}"
    )


def card(facts: Mapping[str, Any]) -> None:
    """Print a dataset's card; damaged files are named, for their owner."""
    classes = list(facts["classes"])
    print(f"{facts['name']}" + (f" ({facts['modality']})" if facts.get("modality") else ""))
    table(["", *classes], [[split, *(counts[c] for c in classes)] for split, counts in facts["counts"].items()])
    for split, values in facts.get("values", {}).items():
        low, middle, high = (f"{values[name]:.6g}" for name in ("min", "median", "max"))
        print(f"{split}: {low} to {high}, median {middle}")
    print(f"Split: {facts['split_rule']}")
    for name, reason in [*facts["unreadable"], *facts["contradictory"]]:
        print(f"Left out: {name}: {reason}")
    for warning in facts["warnings"]:
        print(f"Warning: {warning}")
    for sentence in facts.get("marked", {}).get("sentences", ()):
        print(f"Warning: {sentence}")
    if facts.get("notice"):
        print(facts["notice"])
    print(f"Fingerprint: {facts['fingerprint']}")


def notice() -> None:
    """Print the notice that every diagnosis carries."""
    print(NOTICE)

"""Results on the Compare page: the table and its completeness, ranks, differences, learning rates."""

from pathlib import Path
from typing import Any

import streamlit as st

from app.widgets import layout
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft.compare.analysis.hypotheses import method_verdicts
from shpeft.compare.analysis.paired_comparison import Bootstrap, PairedComparison
from shpeft.compare.analysis.results import Entry, Results, results_by_task
from shpeft.compare.cells import list_cells
from shpeft.compare.measures import Scale, inside
from shpeft.compare.plan import Plan
from shpeft.compare.report import figures, summary
from shpeft.compare.report.markdown import VERDICT_LABELS
from shpeft.compare.table import CELLS, PLAN, Table, tables
from shpeft.support.allowed_folders import check_allowed
from shpeft.support.formatting import METRIC_TITLES
from shpeft.support.markdown import plain

RESULTS = Path(__file__).resolve().parents[3] / "results"
"""The project's own comparisons."""

OTHER = "Another folder"
METRIC_NAMES = (
    *("mae", "rmse", "r2", "quadratic_kappa", "grade_error"),
    *("balanced_accuracy", "macro_auroc", "macro_average_precision", "accuracy", "macro_f1", "ece"),
    *("log_loss", "brier_calibrated"),
)
"""The metrics of the choice, in its order; a task has some of them."""


METRIC_HELP = {
    "balanced_accuracy": "Balanced accuracy: mean recall over classes.",
    "macro_auroc": "AUROC: the chance that a case of a class gets a higher probability for it than another case.",
    "macro_average_precision": "Average precision: the mean precision over all sensitivities.",
    "ece": "Calibration error: the distance between probability and accuracy; lower is better.",
    "quadratic_kappa": "Kappa: agreement beyond chance, where far grades count more.",
    "grade_error": "Grade error: how many grades the decision is off; lower is better.",
    "mae": "Mean absolute error: how far a number is off on average; lower is better.",
    "r2": "R²: 100 is perfect, 0 is as good as the mean of the test images.",
}
"""What a metric is, in a sentence."""


def choose_table() -> list[Bootstrap]:
    """Draw the choice of a table and return it, by task; the page ends here without one."""
    known = {path.name: path for path in tables(RESULTS)}
    name = st.selectbox("Comparison", [*known, OTHER], key="set_table", persist_state="session") if known else OTHER
    folder = known.get(name)
    if folder is None:
        text = st.text_input(
            "Folder of the comparison",
            key="set_table_folder",
            persist_state="session",
            placeholder="for example results/compare",
            help="The folder that `shpeft compare CONFIG.yaml` writes: next to the configuration, with the same name. "
            "The comparison may still be running. The folder is only read.",
        ).strip()
        if not text:
            st.info(
                "Enter the folder of a comparison. To make one: `shpeft compare results/quick.yaml` takes under ten "
                "minutes on generated images and writes the folder `results/quick`."
            )
            st.stop()
        folder = Path(text).expanduser()
    with layout.error_boundary():
        if name == OTHER:
            check_allowed(folder)
        return _load(str(folder), _modified(folder))
    st.stop()


def _modified(folder: Path) -> float:
    path = folder / CELLS
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(show_spinner="Reading the table", max_entries=2)
def _load(folder: str, modified: float) -> list[Bootstrap]:
    """Load the table, by task; cached until it changes."""
    table = Table.existing(folder)
    return [Bootstrap(results) for results in results_by_task(Plan.from_yaml(table.folder / PLAN), table)]


def choose_task(bootstraps: list[Bootstrap]) -> Bootstrap:
    """Draw the choice of a task where the datasets have several; return its results."""
    by_heading = {bootstrap.results.heading: bootstrap for bootstrap in bootstraps}
    if len(by_heading) == 1:
        return bootstraps[0]
    heading = st.segmented_control(
        "Task",
        list(by_heading),
        default=next(iter(by_heading)),
        required=True,
        format_func=plain,
        help="The datasets have several tasks. Their measures have no common mean, so each task is shown by itself.",
    )
    return by_heading[heading]


@st.cache_resource(show_spinner="Resampling the test images", max_entries=16)
def compare_with_all(
    _bootstrap: Bootstrap, folder: str, task: str, cells: int, method: Entry, metric: str
) -> list[PairedComparison]:
    """Compare an arm with every other one."""
    return _bootstrap.compare_all(method, metric)


def completeness(results: Results) -> None:
    """Draw what was compared, and how many cells are done."""
    plan, missing = results.plan, results.missing
    datasets = f"{len(plan.datasets)} dataset{'s' * (len(plan.datasets) > 1)}"
    done, planned = len(results.records), len(list_cells(plan))
    st.caption(
        f"**{plain(plan.report.title)}** Backbone {plain(plan.backbone.name)}; {datasets}, "
        f"{len(results.planned)} arms, {len(plan.seeds)} seeds. {done:,} of {planned:,} cells are done."
    )
    if missing:
        st.warning(
            f"**Unfinished.** {len(missing):,} cells are missing, so these results will change. Reload the page while "
            "the comparison runs.",
            icon=":material/hourglass_bottom:",
        )
        with st.expander("Missing cells"):
            st.markdown(summary.missing_table(results))


def choose_arm_and_metric(results: Results) -> tuple[Entry, str]:
    """Draw the choice of an arm and a metric; return both. The page ends here if no cell is done."""
    if not results.entries:
        st.info("No cell of this comparison is done yet.")
        st.stop()
    titles = {entry.title: entry for entry in results.entries}
    left, right = st.columns([1, 2], gap="large")
    default = results.method if results.method in results.entries else results.entries[0]
    with left:
        name = st.selectbox(
            "Arm",
            list(titles),
            index=list(titles).index(default.title),
            help="A fine-tuning method and the share of the backbone it trains. It is compared with all others.",
        )
    known = (name for name in METRIC_NAMES if name in results.measures.comparable)
    metrics = list(dict.fromkeys([results.metric, *known]))
    with right:
        metric = st.segmented_control(
            "Metric",
            metrics,
            default=metrics[0],
            required=True,
            format_func=lambda name: METRIC_TITLES[name].partition(" (")[0],
            help=" ".join(text for name, text in METRIC_HELP.items() if name in metrics),
        )
    return titles[name], metric


def answers(bootstrap: Bootstrap, comparisons: list[PairedComparison]) -> None:
    """Draw the answer to the plan's questions, for its main arm."""
    results = bootstrap.results
    verdicts = method_verdicts(bootstrap, comparisons)
    st.header("Answer", anchor=False)
    st.markdown(summary.answer(results, comparisons, verdicts))
    unit = results.scale(results.metric).unit
    rows = [{"question": v.question, "answer": v.answer, unit: v.evidence, "rule": v.rule} for v in verdicts]
    if rows:
        numbers_table(rows, "questions", label="By question", sentences=True)


def mean_ranks(results: Results, method: Entry, metric: str) -> None:
    """Draw the mean rank of each arm and the critical difference."""
    st.header("Ranks", anchor=False)
    ranking = results.ranking(metric)
    chart(figures.ranks(ranking, method), key="ranks", alt="Dots: the mean rank of each arm")
    st.caption(
        summary.describe_ranks(results, metric, method) + " Gray: not distinguishable from the selected arm.",
        help="On each dataset the best arm has rank 1; ties share a rank. Nemenyi's critical difference corrects for "
        "all pairs of arms: with few datasets and many arms, almost nothing is significant.",
    )
    if ranking:
        rows = [
            {"arm": e.title, "mean rank": rank, **{d: _scaled(results, e, d, metric) for d in ranking.datasets}}
            for e, rank in ranking.rank.items()
        ]
        decimals = dict.fromkeys(ranking.datasets, _format(results.scale(metric)))
        numbers_table(rows, "ranks", {"mean rank": "%.2f", **decimals})


def _scaled(results: Results, entry: Entry, dataset: str, metric: str) -> float | None:
    """Return the mean of a metric as it is written."""
    value = results.mean(entry, metric, (dataset,))
    return None if value is None else results.scale(metric).factor * value


def _format(scale: Scale, sign: bool = False) -> str:
    """Return the format of a column of values or, with ``sign``, of differences."""
    return f"%{'+' if sign else ''}.{scale.decimals}f"


def differences(results: Results, method: Entry, metric: str, comparisons: list[PairedComparison]) -> None:
    """Draw the selected arm minus every other one, as a mean or on one dataset."""
    st.header(f"{plain(method.title)} against the others", anchor=False)
    mean = "mean over datasets"
    on = st.segmented_control("On", [mean, *results.plan.datasets], default=mean, required=True, format_func=plain)
    dataset = None if on == mean else on
    against = [comparison for comparison in comparisons if dataset is None or dataset in comparison.by_dataset]
    margin, scale = results.margin(metric), results.scale(metric)
    chart(
        figures.differences(against, margin, dataset),
        key="differences",
        alt=f"Intervals: {method.title} minus each other arm",
    )
    band = "" if margin is None else f"Green band: less than {scale.margin(margin)}, a negligible difference."
    st.caption(
        "The selected arm minus the other, with 95 % intervals. Blue triangles: better; orange triangles: worse; gray "
        f"circles: tie. {plain(band)}",
        help="Bootstrap with 2,000 resamples of the test images, or of whole patients if known; the same for both arms "
        "and all seeds; seeds are resampled too. Intervals are not corrected for multiple comparisons: 1 of 20 ties "
        "looks like a win. The p-values by Holm in the table are.",
    )
    rows = [_row(comparison, dataset) for comparison in against]
    if rows:
        numbers_table(
            rows, f"differences_{on}", dict.fromkeys(("difference", "low", "high"), _format(scale, sign=True))
        )


def _row(comparison: PairedComparison, dataset: str | None) -> dict[str, Any]:
    difference = comparison.mean if dataset is None else comparison.by_dataset[dataset]
    low, high = difference.interval()
    factor = comparison.scale.factor
    row: dict[str, Any] = {
        "against": comparison.other.title,
        "difference": factor * difference.value,
        "low": factor * low,
        "high": factor * high,
        "verdict": VERDICT_LABELS[difference.verdict],
    }
    if dataset is None:
        row |= {
            "p, Holm": f"{comparison.holm:.2g}",
            "margin": equivalence(comparison),
            "Wilcoxon p": f"{comparison.wilcoxon:.2g}",
            "Wilcoxon, Holm": f"{comparison.wilcoxon_holm:.2g}",
            "datasets": len(comparison.by_dataset),
        }
    return row


def equivalence(comparison: PairedComparison) -> str:
    """Return the conclusion of the two one-sided tests."""
    if comparison.tost is None:
        return "cannot be tested"
    return "equivalent" if comparison.tost.equivalent else "not worse" if comparison.tost.not_worse else "not shown"


def accuracy_by_weights(bootstrap: Bootstrap, method: Entry, metric: str) -> None:
    """Draw the metric against the number of trained weights."""
    results = bootstrap.results
    name, scale = METRIC_TITLES[metric].partition(" (")[0], results.scale(metric)
    st.header(f"{name} by trained weights", anchor=False)
    chart(
        figures.weights(results, metric, method),
        key="weights",
        alt=f"Dots: {inside(metric)} by number of trained weights",
    )
    entries, datasets = results.common
    st.caption(
        f"{name}, mean over {plain(', '.join(datasets))}. Labels: the selected arm "
        "and arms better than all with as few weights. Hover over the others.",
        help="Logarithmic axis. The head, which every arm trains, is not counted.",
    )
    if (lines := figures.against_budget(bootstrap, metric, method)) is not None:
        chart(lines, key="budgets", alt=f"Lines: {inside(metric)} of each score by budget")
        st.caption(
            f"Each score by budget, mean over all datasets, with 95 % intervals of {plain(method.arm)} if it has "
            "budgets. Horizontal lines: arms without a budget."
        )
    rows = [
        {
            "arm": e.title,
            "trained weights": results.typical(e, "trained"),
            "share of the backbone, %": 100 * results.typical(e, "share"),
            "file, KiB": results.typical(e, "bytes") / 1024,
            name: scale.factor * (results.mean(e, metric, datasets) or 0.0),
        }
        for e in entries
    ]
    formats = {
        "share of the backbone, %": "%.4g",
        "file, KiB": "%.0f",
        name: _format(scale),
    }
    numbers_table(rows, "weights", {"trained weights": "localized", **formats})


def learning_rates(results: Results) -> None:
    """Draw the tuned learning rates, with a warning if the best one is at an edge of the grid."""
    st.header("Learning rates", anchor=False)
    plan, rows, edges = results.plan, [], []
    for entry in results.tuned:
        rates_by_dataset = {d: results.rates(entry, d) for d in plan.datasets}
        edges += [entry.title for rates in rates_by_dataset.values() if any(rates.values())]
        best = {
            d: ", ".join(f"{lr:g}{' (edge)' * edge}" for lr, edge in rates.items())
            for d, rates in rates_by_dataset.items()
        }
        rows.append({"arm": entry.title, "tried": ", ".join(f"{x:g}" for x in results.grid(entry)), **best})
    if not rows:
        st.caption("No arm with a learning rate is done yet.")
        return
    if edges:
        st.warning(
            "The best rate is at an edge of the grid for "
            + ", ".join(
                f"{plain(name)} ({edges.count(name):,} of {len(plan.datasets)} datasets)"
                for name in dict.fromkeys(edges)
            )
            + ". A wider grid could improve these arms.",
            icon=":material/warning:",
        )
    st.caption(
        "Tuned on the validation images, with the same number of trials for every arm.",
        help="A badly tuned learning rate makes a baseline look weaker than it is.",
    )
    numbers_table(rows, "learning_rates", label="Learning rates", open=True)

"""The parts of the Compare page that show a table of a comparison: which, how far filled, ranks, differences, rates."""

from pathlib import Path
from typing import Any

import shared
import streamlit as st
from evaluating import PLAIN
from tables import same_numbers

from shpeft.compare import answer, claims, pictures
from shpeft.compare.duels import Bootstrap, Duel
from shpeft.compare.markdown import WORDS, margin_told
from shpeft.compare.results import Entry, Results
from shpeft.compare.table import CELLS, tables
from shpeft.runs.card import METRICS

RESULTS = Path(__file__).resolve().parents[1] / "results"
"""Where the project keeps its own comparisons."""

OTHER = "Another folder"
POINTS = "%+.1f"
MEASURES = ("balanced_accuracy", "macro_auroc", "accuracy", "macro_f1", "ece")


def pick_table() -> Bootstrap:
    """Let a table be chosen; the page ends here without one."""
    known = {path.name: path for path in tables(RESULTS)}
    chosen = st.selectbox("Comparison", [*known, OTHER], key="set_table") if known else OTHER
    folder = known.get(chosen)
    if folder is None:
        typed = st.text_input(
            "Folder of the table",
            key="set_table_folder",
            placeholder="such as results/compare",
            help="The folder that `shpeft compare CONFIG.yaml` writes to: beside the configuration, with its name. It "
            "may still be filling. Nothing in it is changed.",
        ).strip()
        if not typed:
            st.info(
                "Name the folder of a comparison above. There is none yet? `shpeft compare results/quick.yaml` makes "
                "one from generated images in under ten minutes, in the folder `results/quick`."
            )
            st.stop()
        folder = Path(typed).expanduser()
    with shared.boundary():
        return _resampled(str(folder), _stamp(folder))
    st.stop()


def _stamp(folder: Path) -> float:
    path = folder / CELLS
    return path.stat().st_mtime if path.is_file() else 0.0


@st.cache_resource(show_spinner="Reading the table", max_entries=2)
def _resampled(folder: str, stamp: float) -> Bootstrap:
    """The table as it is now: what is remembered of a shorter one is of no use."""
    return Bootstrap(Results.of(folder))


@st.cache_resource(show_spinner="Resampling the test images", max_entries=16)
def duels_of(_bootstrap: Bootstrap, folder: str, cells: int, method: Entry, metric: str) -> list[Duel]:
    """An arm against every other."""
    return _bootstrap.duels(method, metric)


def standing(results: Results) -> None:
    """What was compared, and how much of it is there."""
    plan, missing = results.plan, results.missing
    done, asked = len(results.records), len(plan.cells())
    st.caption(
        f"**{plan.report.title}** Backbone {plan.backbone.name}; {len(plan.datasets)} datasets, {len(results.planned)} "
        f"arms, {len(plan.seeds)} seeds. {done:,} of {asked:,} cells are done."
    )
    if missing:
        st.warning(
            f"**Unfinished.** {len(missing):,} cells are missing, so what stands here will change. Reload the page to "
            "see more of a comparison that is running.",
            icon=":material/hourglass_bottom:",
        )
        with st.expander("Which cells are missing"):
            st.markdown(answer.missing(results))


def choices(results: Results) -> tuple[Entry, str]:
    """The arm that is looked at and the measure."""
    if not results.entries:
        st.info("No cell of this comparison has been finished with success yet.")
        st.stop()
    titles = {entry.title: entry for entry in results.entries}
    left, right = st.columns([1, 2], gap="large")
    usual = results.method if results.method in results.entries else results.entries[0]
    with left:
        name = st.selectbox(
            "Arm",
            list(titles),
            index=list(titles).index(usual.title),
            help="A way to fine-tune, with how much of the backbone it trains. It is held against all others.",
        )
    measures = list(dict.fromkeys([results.plan.report.metric, *MEASURES]))
    with right:
        metric = st.segmented_control(
            "Measure",
            measures,
            default=measures[0],
            required=True,
            format_func=lambda name: METRICS[name].partition(" (")[0],
            help="Balanced accuracy: of each class the share that is found, the mean over classes. AUROC: the chance "
            "that a case of a class gets a higher probability of it than another case. Calibration error: how far "
            "probabilities are from the share that is right; lower is better.",
        )
    return titles[name], metric


def answers(bootstrap: Bootstrap, duels: list[Duel]) -> None:
    """The answer in a paragraph, and the questions; of the arm that the comparison is about."""
    results = bootstrap.results
    goals = claims.goals(bootstrap, duels)
    st.header("The answer", anchor=False)
    st.markdown(answer.answer(results, duels, goals))
    rows = [{"question": f.question, "answer": f.answer, "points": f.number, "rule": f.rule} for f in goals]
    if rows:
        same_numbers(rows, "questions", label="Question by question", open=True, sentences=True)


def ranks(results: Results, method: Entry, metric: str) -> None:
    """Mean ranks, and what they can show."""
    st.header("Ranks", anchor=False)
    found = results.ranking(metric)
    st.plotly_chart(pictures.ranks(found, method), key="ranks", alt="Dots: the mean rank of each arm", config=PLAIN)
    st.caption(
        answer.ranks_told(results, metric, method) + " Grey: what cannot be told from the chosen arm.",
        help="On each dataset the best arm has rank 1; ties share theirs. Nemenyi's difference allows for comparing "
        "every arm with every other one: with few datasets and many arms almost nothing differs by it.",
    )
    if found:
        rows = [
            {"arm": e.title, "mean rank": rank, **{d: shown(results, e, d, metric) for d in found.datasets}}
            for e, rank in found.rank.items()
        ]
        same_numbers(rows, "ranks", {"mean rank": "%.2f", **dict.fromkeys(found.datasets, "%.1f")})


def shown(results: Results, entry: Entry, dataset: str, metric: str) -> float | None:
    """A metric in points."""
    value = results.mean(entry, metric, (dataset,))
    return None if value is None else 100 * value


def differences(results: Results, method: Entry, metric: str, duels: list[Duel]) -> None:
    """The chosen arm against every other, in the mean or on one dataset."""
    st.header(f"{method.title} against each", anchor=False)
    mean = "mean over datasets"
    on = st.segmented_control("On", [mean, *results.plan.datasets], default=mean, required=True)
    dataset = None if on == mean else on
    against = [duel for duel in duels if dataset is None or dataset in duel.by_dataset]
    margin = results.plan.report.margin
    st.plotly_chart(
        pictures.differences(against, margin, dataset),
        key="differences",
        alt=f"Intervals: {method.title} against each arm",
        config=PLAIN,
    )
    st.caption(
        "The chosen arm minus the other, with 95 % intervals. Blue triangles: ahead; orange triangles: behind; grey "
        f"circles: a tie. Green band: less than {margin_told(margin)}, too little to matter.",
        help="Test images are drawn anew 2,000 times, whole patients where known, the same ones for both arms and all "
        "seeds, and seeds vary as they did in training. Each interval stands alone: of 20 ties one looks like a win. "
        "p by Holm in the table allows for all arms together.",
    )
    rows = [_row(duel, dataset) for duel in against]
    if rows:
        same_numbers(rows, f"differences_{on}", dict.fromkeys(("difference", "low", "high"), POINTS))


def _row(duel: Duel, dataset: str | None) -> dict[str, Any]:
    found = duel.mean if dataset is None else duel.by_dataset[dataset]
    low, high = found.interval()
    row: dict[str, Any] = {
        "against": duel.other.title,
        "difference": 100 * found.value,
        "low": 100 * low,
        "high": 100 * high,
        "verdict": WORDS[found.verdict],
    }
    if dataset is None:
        row |= {
            "p, Holm": f"{duel.holm:.2g}",
            "margin": equivalence(duel),
            "Wilcoxon p": f"{duel.wilcoxon:.2g}",
            "Wilcoxon, Holm": f"{duel.wilcoxon_holm:.2g}",
            "datasets": len(duel.by_dataset),
        }
    return row


def equivalence(duel: Duel) -> str:
    """What the two one-sided tests say."""
    if duel.tost is None:
        return "cannot be tested"
    return "equivalent" if duel.tost.equivalent else "not worse" if duel.tost.not_worse else "open"


def weights(bootstrap: Bootstrap, method: Entry, metric: str) -> None:
    """What more trained weights buy."""
    results = bootstrap.results
    st.header("Accuracy against trained weights", anchor=False)
    st.plotly_chart(
        pictures.weights(results, metric, method),
        key="weights",
        alt="Dots: accuracy against the number of trained weights",
        config=PLAIN,
    )
    entries, datasets = results.common
    st.caption(
        f"{METRICS[metric].partition(' (')[0]}, mean over {', '.join(datasets)}. Named are the method and "
        "what is ahead of all that train no more; point at any other mark.",
        help="The axis is logarithmic: each step is ten times as many weights. The head is trained by every arm and "
        "not counted here.",
    )
    if (lines := pictures.against_budget(bootstrap, metric, method)) is not None:
        st.plotly_chart(lines, key="budgets", alt="Lines: accuracy of each score against its budget", config=PLAIN)
        st.caption(
            f"Each score at its budgets, mean over all datasets, with 95 % intervals of {method.arm} where it has "
            "budgets; level lines: arms without one. How sure a difference is: below."
        )
    rows = [
        {
            "arm": e.title,
            "trained weights": results.typical(e, "trained"),
            "share of the backbone, %": 100 * results.typical(e, "share"),
            "file, KiB": results.typical(e, "bytes") / 1024,
            METRICS[metric].partition(" (")[0]: 100 * (results.mean(e, metric, datasets) or 0.0),
        }
        for e in entries
    ]
    formats = {"share of the backbone, %": "%.4g", "file, KiB": "%.0f", METRICS[metric].partition(" (")[0]: "%.1f"}
    same_numbers(rows, "weights", {"trained weights": "localized", **formats})


def rates(results: Results) -> None:
    """The tuned learning rates, and where the grid ended too soon."""
    st.header("Learning rates", anchor=False)
    plan, rows, edges = results.plan, [], []
    for entry in results.tuned:
        chosen = {d: results.rates(entry, d) for d in plan.datasets}
        edges += [entry.title for rates in chosen.values() if any(rates.values())]
        words = {d: ", ".join(f"{lr:g}{' (edge)' * edge}" for lr, edge in rates.items()) for d, rates in chosen.items()}
        rows.append({"arm": entry.title, "tried": ", ".join(f"{x:g}" for x in results.grid(entry)), **words})
    if not rows:
        st.caption("No arm with a learning rate is done yet.")
        return
    if edges:
        st.warning(
            "The best rate stands at an edge of what was tried for "
            + ", ".join(f"{name} ({edges.count(name)} of {len(plan.datasets)} sets)" for name in dict.fromkeys(edges))
            + ". These arms might do better with a wider grid.",
            icon=":material/warning:",
        )
    st.caption(
        "Chosen on the validation images, the same number of tries for every arm.",
        help="An arm with a badly chosen rate proves nothing: this is how weak baselines are made.",
    )
    same_numbers(rows, "learning_rates", label="The rates", open=True)

"""The parts of the Evaluate page that show what was found: curves, mistakes, subgroups, calibration."""

from typing import Any

import datacard
import pictures
import shared
import streamlit as st
from tables import same_numbers

from shpeft import figures
from shpeft import trust as trusting
from shpeft.evaluation import Predictions
from shpeft.pipeline import look_again
from shpeft.runs import RunFolder, find_run
from shpeft.runs.card import interval
from shpeft.runs.formats import plain
from shpeft.trust import Bin, Curve, Trust

PLAIN = {"displayModeBar": False}
SHOWN = 12
"""Images of a cell that are shown at a time."""


@st.cache_data(show_spinner="Resampling the test images", max_entries=32)
def _curves(run: str, written: float, name: str) -> tuple[Curve, Curve]:
    """A class's ROC and precision–recall curves."""
    predictions = find_run(run).predictions()
    return trusting.roc_curve(predictions, name), trusting.pr_curve(predictions, name)


def written(run: RunFolder) -> float:
    """When the run's test predictions were written: what is remembered of older ones is of no use."""
    return (run.path / "predictions.csv").stat().st_mtime


@shared.part
def curves(run: RunFolder, predictions: Predictions) -> None:
    """ROC and precision–recall of one class against the rest."""
    st.header("One class against the rest", anchor=False)
    name = st.segmented_control(
        "Class", list(predictions.classes), default=predictions.classes[-1], required=True, key=f"class-{run.name}"
    )
    roc, pr = _curves(run.name, written(run), name)
    left, right = st.columns(2, gap="large")
    with left:
        st.metric(
            "AUROC",
            str(roc.area),
            help="The chance that an image of the class gets a higher probability than one without it: 0.5 is "
            "guessing, 1 is perfect. In brackets the 95 % interval from resampling the test images, whole patients "
            "where known.",
        )
        st.plotly_chart(figures.roc(roc), key="roc", alt=f"ROC curve of {name}", config=PLAIN)
        rows = _rows(roc, "false positive rate", "true positive rate")
        same_numbers(rows, f"{run.name}_{name}_roc", dict.fromkeys(rows[0], "%.3f"))
    with right:
        st.metric(
            "Average precision",
            str(pr.area),
            help=f"The mean precision over all recalls. Guessing gives {pr.chance:.3f}, the share of the class among "
            "the test images; with a rarer class in practice, precision is lower than here.",
        )
        st.plotly_chart(figures.precision_recall(pr), key="pr", alt=f"Precision–recall curve of {name}", config=PLAIN)
        rows = _rows(pr, "recall", "precision")
        same_numbers(rows, f"{run.name}_{name}_precision_recall", dict.fromkeys(rows[0], "%.3f"))


def _rows(curve: Curve, x: str, y: str) -> list[dict[str, float | None]]:
    columns = (curve.x, curve.y, curve.low, curve.high)
    return [dict(zip((x, y, "low", "high"), plain(list(row)), strict=True)) for row in zip(*columns, strict=True)]


@shared.part
def confusion(run: RunFolder, predictions: Predictions) -> None:
    """What is taken for what, and the images behind each number."""
    st.header("What is taken for what", anchor=False)
    classes, counts = predictions.classes, trusting.confusion(predictions)
    left, right = st.columns(2, gap="large")
    with left:
        event = st.plotly_chart(
            figures.confusion_matrix(counts, classes),
            key=f"confusion-{run.name}",
            on_select="rerun",
            selection_mode="points",
            alt="Confusion matrix: true classes against predicted ones",
            config=PLAIN,
        )
        st.caption(
            "Each row is a true class, each column what the most probable class was. Click a cell to see its images."
        )
        same_numbers(
            [
                {"true class": true, **{f"taken for {guess}": int(n) for guess, n in zip(classes, row, strict=True)}}
                for true, row in zip(classes, counts, strict=True)
            ],
            f"{run.name}_confusion",
        )
    cells = {f"{true}, taken for {guess}": (true, guess) for true in classes for guess in classes}
    if clicked := shared.newly_clicked(event, f"confusion-{run.name}"):
        st.session_state["cell"] = f"{clicked[0]}, taken for {clicked[1]}"
    if st.session_state.get("cell") not in cells:  # of a run with other classes
        st.session_state["cell"] = None
    with right:
        cell = st.selectbox(
            "Images of", list(cells), index=None, key="cell", placeholder="Click a cell, or choose one here"
        )
        if cell:
            _images(run, predictions, *cells[cell])


def _images(run: RunFolder, predictions: Predictions, true: str, guess: str) -> None:
    """The images of a cell, the surest first."""
    rows = trusting.cases_in(predictions, true, guess)
    if not rows:
        st.info("There is no such image among the test images.")
        return
    st.caption(f"{len(rows):,} test images; below each the model's own probability of {guess}, the surest first.")
    pages = [rows[start : start + SHOWN] for start in range(0, len(rows), SHOWN)]
    page = st.number_input(f"Page, of {len(pages)}", 1, len(pages), key=f"page-{true}-{guess}") if len(pages) > 1 else 1
    test = datacard.load_of(run.config).test
    places = {case: at for at, case in enumerate(test.ids)}
    column = predictions.classes.index(guess)
    found = {
        f"No. {places[case] + 1}: {predictions.probabilities[row, column]:.1%}": test.image(places[case])
        for row in pages[page - 1]
        if (case := predictions.ids[row]) in places
    }
    pictures.strip(found, f"a test image of {true}, taken for {guess},")
    if len(found) < len(pages[page - 1]):
        st.warning("Some of the images are no longer where the run found them.", icon=":material/warning:")
    st.caption("The number is that of the test image on the page Diagnose.")


def subgroups(predictions: Predictions) -> None:
    """The same measures for each hospital, scanner or the like."""
    st.header("Results by subgroup", anchor=False)
    if not predictions.subgroups:
        st.caption(
            "No subgroups are known. A column `site`, `hospital`, `scanner` or `subgroup` in the table of images, or "
            "in a folder's `manifest.csv`, tells results apart here; the model does not see it."
        )
        return
    with shared.boundary():
        st.dataframe(
            [
                {
                    "subgroup": part.name,
                    "test images": part.metrics.cases,
                    **part.counts,
                    "balanced accuracy": interval(plain(part.metrics.balanced_accuracy)),
                    "macro AUROC": interval(plain(part.metrics.macro_auroc)),
                    "calibration error": interval(plain(part.metrics.ece)),
                }
                for part in trusting.by_subgroup(predictions)
            ],
            hide_index=True,
        )
        st.caption(
            "With 95 % intervals. Small subgroups have wide ones: a difference between two of them says something only "
            "where their intervals do not overlap, and little where many subgroups are compared."
        )


def trust_of(run: RunFolder) -> Trust | None:
    """What the run keeps about trust; None until a run of an older version has been looked at anew."""
    found = run.trust()
    if found is not None and run.validation() is not None:
        return found
    st.header("Calibration", anchor=False)
    st.info(
        "This run was made by an older version, which did not keep what the model said about the validation images. "
        "Calibration, threshold, prediction sets and the warning of unusual images rest on it."
    )
    if st.button("Run the model over its validation images", icon=":material/play_arrow:"):
        bar = st.progress(0.0, "Loading the model")
        with shared.boundary():
            look_again(run, progress=lambda stage, done, total: bar.progress(min(1.0, done / max(1, total)), stage))
            st.rerun()
    return None


@shared.part
def calibration(run: RunFolder, trust: Trust) -> None:
    """Whether probabilities mean what they say, before and after the temperature."""
    st.header("Do the probabilities mean what they say?", anchor=False)
    fitted = trust.calibration
    low, high = fitted.interval
    left, right = st.columns(2, gap="large")
    with left:
        st.metric(
            "Temperature",
            f"{fitted.temperature:.2f} [{low:.2f}, {high:.2f}]",
            help="The model's logits are divided by it. Above 1 the model was too sure of itself, below 1 not sure "
            "enough. It changes no ranking and no prediction. In brackets: the values that the validation images "
            "allow.",
        )
        st.caption(
            f"Fitted on {fitted.cases:,} validation images."
            + (" They are too few to tell whether the model was too sure or not sure enough." if low < 1 < high else "")
        )
        st.dataframe(_errors(trust), hide_index=True)
        st.caption(
            "Calibration error: how far, on average, the top probability is from the share that was right. Brier "
            "score: squared error of all probabilities. Lower is better for both.",
            help="The calibration error is taken over 15 bins of equal width and is never quite 0, even of a perfectly "
            "calibrated model; the fewer the images, the larger it is. The validation images chose the temperature, so "
            "that the test images are the fairer ones.",
        )
    with right:
        which = st.segmented_control(
            "Probability of",
            ["the predicted class", *trust.classes],
            default="the predicted class",
            required=True,
            key=f"reliability-{run.name}",
        )
        name = which if which in trust.classes else None
        raw = run.predictions()
        before = trusting.reliability_of(raw, name)
        after = trusting.reliability_of(trusting.calibrated(raw, fitted.temperature), name)
        st.plotly_chart(
            figures.reliability_diagram(before, after),
            key="reliability",
            alt="Reliability diagram: what came true against what was said",
            config=PLAIN,
        )
        st.caption("On the test images, in bins that hold equally many. On the dashed line, what was said comes true.")
        same_numbers(
            [
                {"temperature": word, **row}
                for word, bins in (("before", before), ("after", after))
                for row in _bins(bins)
            ],
            f"{run.name}_reliability",
            dict.fromkeys(("from", "to", "mean probability", "share", "low", "high"), "%.3f"),
        )


def _errors(trust: Trust) -> list[dict[str, Any]]:
    found = {"test": trust.test.calibration if trust.test else None, "validation": trust.validation}
    return [
        {
            "images": f"{split} ({errors.cases:,})",
            "measure": measure,
            "before": interval(plain(before)),
            "after": interval(plain(after)),
        }
        for split, errors in found.items()
        if errors
        for measure, before, after in (
            ("calibration error", errors.ece_before, errors.ece_after),
            ("Brier score", errors.brier_before, errors.brier_after),
        )
    ]


def _bins(bins: tuple[Bin, ...]) -> list[dict[str, Any]]:
    return [
        {
            "from": bin.low,
            "to": bin.high,
            "images": bin.observed.cases,
            "mean probability": bin.mean,
            "true": bin.observed.count,
            "share": bin.observed.value,
            "low": bin.observed.interval[0],
            "high": bin.observed.interval[1],
        }
        for bin in bins
    ]

"""Results on the Evaluate page: ROC and precision–recall, confusion matrix, subgroups, calibration."""

from typing import Any

import streamlit as st

from app.widgets import account, dataset_card, layout, thumbnails
from app.widgets.charts import chart
from app.widgets.data_table import numbers_table
from shpeft import evaluation, figures
from shpeft.evaluation import Bin, Curve, Reliability
from shpeft.evaluation.predict import Predictions
from shpeft.pipeline import calibrate_run
from shpeft.pipeline.evaluated_run import EvaluatedRun
from shpeft.runs import find_run
from shpeft.support.formatting import interval
from shpeft.support.jsonable import to_jsonable
from shpeft.support.markdown import plain

IMAGES_PER_PAGE = 12


@st.cache_data(show_spinner="Resampling the test images", max_entries=32)
def _curves(run: str, finding: str, modified: float, name: str) -> tuple[Curve, Curve]:
    """Return the ROC and precision–recall curves of a class; cached until the predictions change."""
    predictions = EvaluatedRun(find_run(run), finding).test()
    return evaluation.roc_curve(predictions, name), evaluation.pr_curve(predictions, name)


@layout.section
def roc_and_precision_recall(run: EvaluatedRun, predictions: Predictions) -> None:
    """Draw the ROC and precision–recall curves of one class against the rest."""
    name = st.segmented_control(
        "Class",
        list(run.positive_classes()),
        default=predictions.classes[-1],
        required=True,
        key=f"class-{run.name}",
        format_func=plain,
    )
    modified = (run.folder.path / "predictions.csv").stat().st_mtime
    roc, pr = _curves(run.folder.name, run.finding, modified, name)
    left, right = st.columns(2, gap="large")
    with left:
        st.metric(
            "AUROC",
            str(roc.area),
            help="The chance that a positive image gets a higher probability than a negative one: 0.5 is guessing, 1 "
            "is perfect. In brackets: the 95 % interval from resampling test images, or whole patients if known.",
        )
        chart(figures.roc_curve(roc), key="roc", alt=f"ROC curve of {name}")
        rows = _curve_rows(roc, "false positive rate", "true positive rate")
        numbers_table(rows, f"{run.name}_{name}_roc", dict.fromkeys(rows[0], "%.3f"))
    with right:
        st.metric(
            "Average precision",
            str(pr.area),
            help=f"The mean precision over all recalls. Guessing gives {pr.chance:.3f}, the prevalence in the test "
            "images. If the class is rarer in practice, precision is lower.",
        )
        chart(figures.precision_recall_curve(pr), key="pr", alt=f"Precision–recall curve of {name}")
        rows = _curve_rows(pr, "recall", "precision")
        numbers_table(rows, f"{run.name}_{name}_precision_recall", dict.fromkeys(rows[0], "%.3f"))


def _curve_rows(curve: Curve, x: str, y: str) -> list[dict[str, float | None]]:
    columns = (curve.x, curve.y, curve.low, curve.high)
    return [dict(zip((x, y, "low", "high"), to_jsonable(list(row)), strict=True)) for row in zip(*columns, strict=True)]


@layout.section
def confusion_matrix(run: EvaluatedRun, predictions: Predictions) -> None:
    """Draw the confusion matrix and the images of a selected cell."""
    classes, counts = predictions.classes, evaluation.confusion(predictions)
    left, right = st.columns(2, gap="large")
    with left:
        event = chart(
            figures.confusion_matrix(predictions),
            key=f"confusion-{run.name}",
            on_select="rerun",
            selection_mode="points",
            alt="Confusion matrix: true against predicted classes",
        )
        st.caption("Rows: true class. Columns: predicted class. Click a cell to see its images.")
        numbers_table(
            [
                {"true class": true, **{f"predicted {guess}": int(n) for guess, n in zip(classes, row, strict=True)}}
                for true, row in zip(classes, counts, strict=True)
            ],
            f"{run.name}_confusion",
        )
    cells = {f"{true}, predicted {guess}": (true, guess) for true in classes for guess in classes}
    if clicked := layout.newly_clicked(event, f"confusion-{run.name}"):
        st.session_state["cell"] = f"{clicked[0]}, predicted {clicked[1]}"
    if st.session_state.get("cell") not in cells:  # left over from a run with other classes
        st.session_state["cell"] = None
    with right:
        cell = st.selectbox("Images of", list(cells), index=None, key="cell", placeholder="Click a cell or choose one")
        if cell:
            _cell_images(run, predictions, *cells[cell])


def _cell_images(run: EvaluatedRun, predictions: Predictions, true: str, guess: str) -> None:
    """Draw the images of a cell, the most confident first."""
    rows = evaluation.cases_in_cell(predictions, true, guess)
    if not rows:
        st.info("No test image is in this cell.")
        return
    st.caption(f"{len(rows):,} test images with the uncalibrated probability of {guess}, the most confident first.")
    pages = [rows[first : first + IMAGES_PER_PAGE] for first in range(0, len(rows), IMAGES_PER_PAGE)]
    page = (
        st.number_input(f"Page (of {len(pages)})", 1, len(pages), key=f"page-{true}-{guess}") if len(pages) > 1 else 1
    )
    test = dataset_card.load_run_dataset(run.folder.config).test
    positions = {case: position for position, case in enumerate(test.ids)}
    column = predictions.classes.index(guess)
    images = {
        f"No. {positions[case] + 1}: {predictions.probabilities[row, column]:.1%}": test.image(positions[case])
        for row in pages[page - 1]
        if (case := predictions.ids[row]) in positions
    }
    thumbnails.image_row(images, f"a test image of {true}, predicted {guess},")
    if len(images) < len(pages[page - 1]):
        st.warning("Some images have been moved or changed since the run.", icon=":material/warning:")
    st.caption("The Diagnose page opens a test image by its number.")


def subgroups(predictions: Predictions) -> None:
    """Draw the metrics of each subgroup, such as a hospital or scanner."""
    if not predictions.subgroups:
        st.caption(
            "No subgroups. To get results by subgroup, add a column `site`, `hospital`, `scanner` or `subgroup` to the "
            "image table or to the folder's `manifest.csv`. The model does not see it."
        )
        return
    with layout.error_boundary():
        st.dataframe(
            [
                {
                    "subgroup": part.name,
                    "test images": part.metrics.cases,
                    **part.counts,
                    "balanced accuracy": interval(to_jsonable(part.metrics.balanced_accuracy)),
                    "macro AUROC": interval(to_jsonable(part.metrics.macro_auroc)),
                    "calibration error": interval(to_jsonable(part.metrics.ece)),
                }
                for part in evaluation.by_subgroup(predictions)
            ],
            hide_index=True,
        )
        st.caption(
            "With 95 % intervals. Differences between subgroups with overlapping intervals may be chance; with many "
            "subgroups, some differences always are."
        )


def saved_reliability(run: EvaluatedRun) -> Reliability | None:
    """Return the reliability saved with the run; for a run of an older version, offer to compute it."""
    reliability = run.reliability()
    if reliability is not None and run.validation() is not None:
        return reliability
    st.header("Calibration", anchor=False)
    st.info(
        "This run was made by an older version, which did not save the predictions on the validation images. "
        "Calibration, threshold, prediction sets and the out-of-distribution warning need them."
    )
    calibrate_button(run, "Predict the validation images")
    return None


def calibrate_button(run: EvaluatedRun, label: str) -> None:
    """Draw a button that calibrates the run as newer versions do; its decision rules stay."""
    if not run.is_example and not account.may(run.folder.path):
        st.caption(account.NOT_YOURS)
        return
    if run.is_example or not st.button(label, icon=":material/play_arrow:"):
        return
    bar = st.progress(0.0, "Loading the model")
    with layout.error_boundary():

        def progress(stage: str, done: int, total: int) -> None:
            bar.progress(min(1.0, done / max(1, total)), plain(stage))

        account.check(run.folder.path, f"The run {run.folder.name}")
        calibrate_run(run.folder, progress=progress)
        st.rerun()


@layout.section
def calibration(run: EvaluatedRun, reliability: Reliability) -> None:
    """Draw the temperature, the calibration errors and the reliability diagram, before and after scaling."""
    fitted = reliability.calibration
    low, high = fitted.interval
    left, right = st.columns(2, gap="large")
    with left:
        st.metric(
            "Temperature",
            f"{fitted.temperature:.2f} [{low:.2f}, {high:.2f}]",
            help="The logits are divided by it. Above 1 the model was overconfident, below 1 underconfident. Rankings "
            "and predictions stay the same. In brackets: the interval that the validation images allow.",
        )
        st.caption(
            f"Fitted on {fitted.cases:,} validation images."
            + (
                " They are too few to tell whether the model was overconfident or underconfident."
                if low < 1 < high
                else ""
            )
        )
        st.dataframe(_errors(reliability), hide_index=True)
        st.caption(
            "Calibration error: mean distance between the top probability and the accuracy. Brier score: squared error "
            "of all probabilities. Lower is better for both.",
            help="The calibration error uses 15 bins of equal width. It is never 0, even for a perfectly calibrated "
            "model, and grows with fewer images. The temperature was fitted on the validation images; the test images "
            "are independent.",
        )
    with right:
        selected = st.segmented_control(
            "Probability of",
            ["the predicted class", *reliability.classes],
            default="the predicted class",
            required=True,
            key=f"reliability-{run.name}",
            format_func=plain,
        )
        name = selected if selected in reliability.classes else None
        raw = run.test()
        before = evaluation.calibration_curve(raw, name)
        after = evaluation.calibration_curve(evaluation.calibrate_predictions(raw, fitted.temperature), name)
        chart(
            figures.reliability_diagram(raw, reliability, name),
            key="reliability",
            alt="Reliability diagram: observed share against predicted probability",
        )
        st.caption("On the test images, in bins with equal counts. The dashed line is perfect calibration.")
        numbers_table(
            [
                {"temperature": stage, **row}
                for stage, bins in (("before", before), ("after", after))
                for row in _bins(bins)
            ],
            f"{run.name}_reliability",
            dict.fromkeys(("from", "to", "mean probability", "share", "low", "high"), "%.3f"),
        )


def _errors(reliability: Reliability) -> list[dict[str, Any]]:
    errors_by_split = {
        "test": reliability.test.calibration if reliability.test else None,
        "validation": reliability.validation,
    }
    return [
        {
            "images": f"{split} ({errors.cases:,})",
            "metric": metric,
            "before": interval(to_jsonable(before)),
            "after": interval(to_jsonable(after)),
        }
        for split, errors in errors_by_split.items()
        if errors
        for metric, before, after in (
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

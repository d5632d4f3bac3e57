"""The prediction for the image, and its explanation: a smooth map, made and checked without being asked."""

from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st
from PIL import Image

from app.views.diagnose import model_tasks
from app.views.diagnose.image import Case
from app.widgets import account, layout, thumbnails
from shpeft.batch.csv_rows import made_by
from shpeft.diagnosis import CAPTION, Diagnosis, diagnose
from shpeft.explanation.saliency import METHODS, CheckedSaliency, Sanity, explain_and_check, overlay
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from shpeft.runs.audit import recorder
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress

VERDICTS: dict[int, tuple[str, Literal["green", "orange"], str]] = {
    2: ("passes both sanity checks", "green", ":material/check:"),
    1: ("passes one of two sanity checks: other regions may matter as much", "orange", ":material/warning:"),
}
"""By number of checks passed; a map that passes none is withheld."""

PICTURE_PIXELS = 900
"""Longest side of the picture with the map on the page; the saved one has the image's own size."""

UNASKED_SECONDS = 15.0
"""Expected duration up to which a map is made and checked without a click; the page does not wait for it."""


@dataclass(frozen=True)
class Explanation:
    """The map of a case and its checks.

    Attributes:
        diagnosis: the diagnosis with the map, whether or not it is shown.
        sanity: the checks; None if the map is the same everywhere.
        withheld: why no map is shown; empty if it is.
    """

    diagnosis: Diagnosis
    sanity: Sanity | None
    withheld: str

    @property
    def shown(self) -> Diagnosis | None:
        """The diagnosis with the map; None if the map is withheld."""
        return None if self.withheld else self.diagnosis


def diagnose_image(run: RunFolder, case: Case) -> Diagnosis:
    """Return the model's diagnosis of the image, without a map; a map of another image is no longer made."""
    model_tasks.cancel_others(run, case.digest)
    record = recorder(account.current(), run.name)

    def work(loaded: LoadedRun, progress: Progress) -> Diagnosis:
        diagnosis = diagnose(
            loaded.backbone,
            case.image,
            reliability=loaded.reliability,
            ood_detector=loaded.ood_detector,
            progress=progress,
        )
        if record is not None:
            record(case.id, made_by(loaded))
        return diagnosis

    return model_tasks.wait_for_result(run, (case.digest, "probabilities"), work)


def explanation(run: RunFolder, case: Case, diagnosis: Diagnosis) -> Explanation | None:
    """Draw where the score is sensitive; return the map with its checks, or None while there is none."""
    picture, settings = st.container(), st.expander("Method and checks of the map")
    with settings:
        method, target = _settings(run, case, diagnosis)

    def work(loaded: LoadedRun, progress: Progress) -> CheckedSaliency:
        inputs = loaded.backbone.transform(case.image)
        return explain_and_check(loaded.backbone, inputs, target, method, progress=progress)

    with picture, layout.error_boundary():
        pace = model_tasks.pass_time(run)
        seconds = pace.explanation(method) + pace.check(method)
        key = (case.digest, method, target, "explanation")
        checked = model_tasks.result_or_progress(run, key, work, "Explain", seconds, unasked=UNASKED_SECONDS)
        if checked is None:
            return None
        if checked.withheld:
            st.info(f"{plain(checked.withheld)} Another method may pass.", icon=":material/visibility_off:")
        else:
            _picture(case, checked, target)
        with settings:
            _details(checked)
        explained = replace(diagnosis, saliency=checked.saliency, target=target)
        return Explanation(explained, checked.sanity, checked.withheld)
    return None


def _settings(run: RunFolder, case: Case, diagnosis: Diagnosis) -> tuple[str, str]:
    """Draw the choice of a method and a class; return both."""
    methods = model_tasks.saliency_methods(run)
    method = st.selectbox(
        "Method",
        methods,
        key=f"set_method-{run.name}",
        persist_state="session",
        format_func=lambda name: METHODS[name].title,
    )
    st.caption(METHODS[method].sentence)
    if diagnosis.estimate is not None:  # there is one number
        return method, diagnosis.classes[0]
    target = st.selectbox(
        "For the score of",
        [name for name, _ in diagnosis.ranked()],
        key=f"target-{run.name}-{case.digest}",
        help="The class whose score the map explains; the most probable class comes first.",
    )
    return method, target


def _picture(case: Case, checked: CheckedSaliency, target: str) -> None:
    """Draw the image with the map, at most :data:`PICTURE_PIXELS` wide."""
    small = case.image.copy()
    small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.LANCZOS)
    picture = thumbnails.png_bytes(overlay(small, checked.saliency.map))
    st.image(picture, width="stretch", alt=f"The image with the map for {target}")
    st.caption(f"{CAPTION} The stronger the blue, the more the score for **{plain(target)}** depends on those pixels.")
    if checked.sanity is not None:
        verdict, color, icon = VERDICTS[checked.sanity.passed]
        st.badge(f"This map {verdict}", color=color, icon=icon)


def _details(checked: CheckedSaliency) -> None:
    """Draw the numbers of the checks, and how completely the map accounts for the score."""
    if checked.saliency.residual is not None:
        st.caption(
            f"Residual {checked.saliency.residual:.1%}: the share of the score's change that the map does not account "
            "for.",
            help="The values of this map should add up to the change of the score between a plain image and this one. "
            "The residual is the part that is missing; below 5 % is good.",
        )
    if checked.sanity is None:
        return
    for sentence in checked.sanity.sentences():
        st.caption(plain(sentence))
    st.dataframe(checked.sanity.numbers(), hide_index=True)
    st.caption(
        "Randomization (Adebayo et al. 2018): the map is repeated with random weights, from the head downwards. "
        "Deletion and insertion (Petsiuk et al. 2018): the most marked pixels are covered, or shown alone; the change "
        "of the score is averaged over 1/32 to 1/2 of the pixels. Sensitivity (Yeh et al. 2019): how much the map "
        "changes under invisible noise. The picture smooths the map and leaves out its lowest values."
    )

"""The saliency map of the image under diagnosis: offered with its time, made, and checked."""

import shared
import streamlit as st
import working
from diagnosing import Case

from shpeft.diagnosis import Diagnosis, diagnose
from shpeft.pipeline import LoadedRun
from shpeft.progress import Progress
from shpeft.runs import RunFolder
from shpeft.saliency import DEFAULT, METHODS, Sanity, check_saliency

VERDICTS = {
    2: ("passes both sanity checks", "green", ":material/check:"),
    1: ("passes one of two sanity checks", "orange", ":material/warning:"),
    0: ("fails both sanity checks", "red", ":material/error:"),
}


def probabilities(run: RunFolder, case: Case) -> Diagnosis:
    """The model's probabilities for the image."""

    def work(loaded: LoadedRun, progress: Progress) -> Diagnosis:
        return diagnose(loaded.backbone, case.image, trust=loaded.trust, novelty=loaded.novelty, progress=progress)

    return working.at_once(run, (case.digest, "probabilities"), work)


def explanation(run: RunFolder, case: Case, found: Diagnosis) -> Diagnosis | None:
    """Offer a saliency map; the diagnosis with it, or None while there is none."""
    shown = st.toggle(
        "Show where the score is sensitive",
        key=f"overlay-{run.name}-{case.digest}",
        help="Lays a saliency map over the image. Off for each new image, so that it is first seen unmarked.",
    )
    method = st.selectbox(
        "Method",
        list(METHODS),
        list(METHODS).index(DEFAULT),
        key="set_method",
        format_func=lambda name: METHODS[name].title,
        disabled=not shown,
    )
    if not shown:
        return None
    st.caption(METHODS[method].sentence)
    target = st.selectbox(
        "For the score of",
        [name for name, _ in found.ranked()],
        key=f"target-{run.name}-{case.digest}",
        help="Whose score is explained: first the most probable class.",
    )

    def work(loaded: LoadedRun, progress: Progress) -> Diagnosis:
        return diagnose(loaded.backbone, case.image, saliency=method, target=target, progress=progress)

    with shared.boundary():
        seconds = working.pace(run).explanation(method)
        explained = working.done(run, (case.digest, method, target), work, "Make the map", seconds)
        if explained is not None:
            _residual(explained)
        return explained
    return None


def _residual(explained: Diagnosis) -> None:
    saliency = explained.saliency
    if saliency is not None and saliency.residual is not None:
        st.caption(
            f"Residual {saliency.residual:.1%}: that much of the score's change is missing from the map.",
            help="This method promises that its map adds up to the change of the score between a plain image and this "
            "one. The residual says how far from it this map is; below 5 % is good.",
        )


def sanity(run: RunFolder, case: Case, explained: Diagnosis) -> Sanity | None:
    """The badge of the map: whether it can be trusted to be about this model; None while it is not checked."""
    saliency = explained.saliency
    if saliency is None:
        return None

    def work(loaded: LoadedRun, progress: Progress) -> Sanity:
        image = loaded.backbone.transform(case.image)
        return check_saliency(loaded.backbone, image, saliency, progress=progress)

    with shared.boundary():
        seconds = working.pace(run).check(saliency.method)
        key = (case.digest, saliency.method, saliency.target, "sanity")
        checked = working.done(run, key, work, "Check this map", seconds)
        if checked is not None:
            _badge(checked)
        return checked
    return None


def _badge(checked: Sanity) -> None:
    words, color, icon = VERDICTS[checked.passed]
    st.badge(f"This map {words}", color=color, icon=icon)
    for sentence in checked.sentences():
        st.caption(sentence)
    with st.expander("Numbers of the checks"):
        st.dataframe(checked.numbers(), hide_index=True)
        st.caption(
            "Randomisation (Adebayo et al. 2018): the map is made again with weights drawn at random, from the head "
            "downwards. Deletion and insertion (Petsiuk et al. 2018): what the map marks most is covered, or shown "
            "alone, and the score's distance from the whole image's is averaged over 1/32 to 1/2 of the pixels. "
            "Sensitivity (Yeh et al. 2019): how far the map moves under a noise that nobody sees."
        )

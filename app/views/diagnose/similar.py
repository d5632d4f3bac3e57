"""The training images that the model finds most similar to the case, with their labels."""

import streamlit as st

from app.views.diagnose import model_tasks
from app.views.diagnose.image import Case
from app.widgets import account, dataset_card, layout
from shpeft.datasets import Split
from shpeft.errors import DatasetError, ShpeftError
from shpeft.pipeline import LoadedRun, SimilarImage, similar_images, unit_features
from shpeft.runs import RunFolder
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress


def similar_training_images(run: RunFolder, case: Case) -> None:
    """Draw the four most similar training images, if the run stores their features and the dataset can be read."""
    if not run.config.store_features:
        return

    def work(loaded: LoadedRun, progress: Progress) -> tuple[SimilarImage, ...]:
        return similar_images(run, unit_features(loaded.backbone, loaded.backbone.transform(case.image))[0])

    with layout.error_boundary():
        similar = model_tasks.wait_for_result(run, (case.digest, "similar"), work)
        st.header(
            "Most similar training images",
            anchor=False,
            help="By the features that the model decides on. What they share with this image need not be the finding.",
        )
        train = _training_images(run)
        if isinstance(train, str):
            labels = plain(", ".join(image.label for image in similar))
            st.caption(f"Their labels: {labels}. They cannot be shown: {plain(train)}")
            return
        for column, image in zip(st.columns(len(similar)), similar, strict=True):
            column.image(train.image(image.row), width="stretch", alt=f"A training image of {image.label}")
            column.caption(f"**{plain(image.label)}**, similarity {image.similarity:.2f}")


def _training_images(run: RunFolder) -> Split | str:
    """Return the run's training images, or why they cannot be shown."""
    stored = run.similar.read()
    gone = "the dataset is no longer where it was, or it has changed."
    try:
        account.check_images(run.config.dataset.source)
    except DatasetError as error:
        return str(error)
    try:
        data = dataset_card.load_run_dataset(run.config)
    except ShpeftError:
        return gone
    return data.train if stored is not None and stored.dataset == data.fingerprint else gone

"""How far to believe a run's model: seen once, at a run's end, and chosen anew whenever somebody wishes."""

from dataclasses import dataclass

from shpeft.backbones import Backbone
from shpeft.datasets import Dataset, load_dataset
from shpeft.deltafile import read_header
from shpeft.errors import RunError
from shpeft.evaluation import Predictions, predict
from shpeft.feed import Feed
from shpeft.pipeline.finished import load_run
from shpeft.pipeline.meter import FEATURE_IMAGES
from shpeft.probe import extract_features
from shpeft.progress import Progress, silent
from shpeft.runs import RunFolder
from shpeft.runs.card import model_card
from shpeft.trust import Choices, NoveltyDetector, Trust, fit_novelty, fit_trust


@dataclass(frozen=True)
class Seen:
    """What the fine-tuned model makes of the validation images, and what training images look like to it."""

    validation: Predictions
    novelty: NoveltyDetector


def look(backbone: Backbone, data: Dataset, *, feed: Feed | None = None, progress: Progress = silent) -> Seen:
    """Run a fine-tuned backbone over the validation images and over an even choice of the training images."""
    feed = feed or Feed(backbone)
    validation = predict(backbone, data.val, feed=feed, progress=progress, stage="predictions of the validation images")
    usual, _ = extract_features(feed, data.val, progress=progress, stage="features of the validation images")
    rows = range(0, len(data.train), -(-len(data.train) // FEATURE_IMAGES))
    seen, _ = extract_features(
        feed, data.train.subset(rows), progress=progress, stage="features of the training images"
    )
    return Seen(validation, fit_novelty(seen, usual))


def look_again(folder: RunFolder, *, device: str = "auto", progress: Progress = silent) -> Trust:
    """Do for a finished run of an older version what newer ones do at their end; returns what it says of trust.

    Raises:
        RunError: the run is not finished.
        ShpeftError: its model or its images cannot be opened.
    """
    loaded = load_run(folder, device)
    config = loaded.config
    data = load_dataset(**config.dataset.model_dump(), seed=config.seed, progress=progress)
    seen = look(loaded.backbone, data, progress=progress)
    folder.write_validation(seen.validation)
    folder.write_novelty(seen.novelty)
    return choose_trust(folder, Choices())


def choose_trust(folder: RunFolder, choices: Choices) -> Trust:
    """Fit threshold, prediction sets and abstain band anew as these choices ask, and keep it with the run.

    Raises:
        RunError: the run holds no predictions of validation images.
        ConfigError, ClassMismatch: choices that its validation images do not allow; nothing is changed then.
    """
    validation = folder.validation()
    if validation is None:
        raise RunError(
            f"The run {folder.name} holds no predictions of its validation images: it was made by an older version. "
            f"Have them made with `shpeft calibrate {folder.name}`."
        )
    trust = fit_trust(validation, choices, folder.predictions())
    folder.write_trust(trust)
    metrics = folder.metrics()
    if metrics is not None and folder.delta_path.exists():
        folder.write_card(model_card(folder.config, metrics, read_header(folder.delta_path), trust))
    return trust

"""The errors that shpeft raises on purpose.

A message says what was asked, what was found, what is allowed and what to do next.

* ShpeftError
  * ConfigError              a run's configuration; lists all its problems at once
  * MissingExtra             an optional package is needed; names the extra to install
  * DatasetError
    · EmptyDataset           no images, or no class left
    · UnreadableImage        a file that is not an image, or a damaged one
    · ClassMismatch          classes of two splits, or of data and model, differ
    · Leakage                the same case stands in two splits
  * BackboneError
    · UnknownBackbone        offers the nearest names
    · WeightsUnavailable     a file or a hub that could not be reached
    · CannotCut              a model that does not fall into two parts at a block
  * SelectionError
    · EmptySupport           a budget that selects nothing
  * DeltaError
    · DeltaFormat            a file that is not a shpeft delta, or a damaged one
    · BaseMismatch           a delta for other base weights
  * TrainingError
    · NonFiniteLoss          the loss became NaN or infinite
    · CheckpointMismatch     a checkpoint of other base weights, images or settings
  * DiagnosisError           an upload or a saliency method that cannot be used
  * RunError                 a run folder that is missing, damaged or unfinished

``Cancelled`` is no error: it is how a progress callback stops work that the user no longer wants.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

E = TypeVar("E", bound=Exception)


class ShpeftError(Exception):
    """Anything that the person using shpeft can put right."""


class ConfigError(ShpeftError):
    """A run's configuration asks for something that does not exist."""


class MissingExtra(ShpeftError):
    """An optional package is not installed."""


class DatasetError(ShpeftError):
    """A dataset cannot be used."""


class EmptyDataset(DatasetError):
    """There are no images, or fewer than two classes."""


class UnreadableImage(DatasetError):
    """A file cannot be decoded as an image."""


class ClassMismatch(DatasetError):
    """Two lists of classes that must agree differ."""


class Leakage(DatasetError):
    """The same case stands in more than one split."""


class BackboneError(ShpeftError):
    """A backbone cannot be made or used."""


class UnknownBackbone(BackboneError):
    """No backbone has this name."""


class WeightsUnavailable(BackboneError):
    """Pretrained weights could not be read or reached."""


class CannotCut(BackboneError):
    """A backbone's data do not all pass through one block's input."""


class SelectionError(ShpeftError):
    """Scores and a budget that do not go together."""


class EmptySupport(SelectionError):
    """The budget selects no weight."""


class DeltaError(ShpeftError):
    """A delta cannot be loaded, saved or applied."""


class DeltaFormat(DeltaError):
    """A file is not a valid delta file."""


class BaseMismatch(DeltaError):
    """A delta belongs to other base weights than the ones at hand."""


class TrainingError(ShpeftError):
    """Fine-tuning cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite."""


class CheckpointMismatch(TrainingError):
    """A checkpoint belongs to something else than what is to be trained."""


class DiagnosisError(ShpeftError):
    """An image cannot be diagnosed as asked."""


class RunError(ShpeftError):
    """A run folder cannot be used."""


class Cancelled(Exception):
    """Raised by a progress callback to stop the work; whatever was changed is put back."""


LISTED = 50
"""Files that an error names."""


def named(error: E, files: Sequence[Sequence[str]]) -> E:
    """The error with notes that name files, each with its reason: for the person who gave them.

    Notes are shown by the command line, the app and tracebacks, but are no part of the sentence that a run stores: a
    file's name may be a patient's.
    """
    for name, reason in files[:LISTED]:
        error.add_note(f"{name}: {reason}")
    if len(files) > LISTED:
        error.add_note(f"and {len(files) - LISTED:,} more.")
    return error


def notes(error: BaseException) -> list[str]:
    """What was noted with an error."""
    return list(getattr(error, "__notes__", ()))


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """A sentence that offers the nearest known names, or lists all when there are few.

    >>> did_you_mean("phantom:fundsu", ["phantom:fundus", "phantom:ultrasound"])
    'Did you mean phantom:fundus?'
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=count, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}."
    return ""

"""The errors that shpeft raises on purpose.

A message says what was asked, what was found, what is allowed and what to do next.

The tree::

    * ShpeftError
      * ConfigError              a run's configuration is invalid; lists all its problems at once
      * MissingExtra             an optional package is missing; names the extra to install
      * DatasetError
        · EmptyDataset           no images, or fewer than two classes
        · UnreadableImage        a file that is not an image, or a damaged one
        · ClassMismatch          two splits, or data and model, have different classes
        · Leakage                the same case is in two splits
      * BackboneError
        · UnknownBackbone        no such name; offers the nearest ones
        · WeightsUnavailable     a file or hub that could not be read
        · CannotSplit            a model that cannot be split into two parts at a block
      * SelectionError
        · EmptySupport           a budget that selects nothing
      * DeltaError
        · DeltaFormat            a file that is not a shpeft delta, or a damaged one
        · BaseMismatch           a delta for other base weights
      * TrainingError
        · NonFiniteLoss          the loss became NaN or infinite
        · CheckpointMismatch     a checkpoint of other base weights, images or settings
      * DiagnosisError           an upload or a saliency method that cannot be used
      * OutOfMemory              the memory ran out
      * RunError                 a run folder that is missing, damaged or unfinished

``Cancelled`` is not an error: a progress callback raises it to stop the work. ``Interrupted`` is its form for a process
that ends without the user's wish.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

E = TypeVar("E", bound=Exception)


class ShpeftError(Exception):
    """Base class of the errors that the user of shpeft can fix; the message says how.

    Examples:
        >>> import shpeft
        >>> try:
        ...     shpeft.create_backbone("test_vit", classes=["ill"], weights="random")
        ... except shpeft.ShpeftError as error:
        ...     print(error)
        A backbone needs at least two classes; found ['ill']. Name two or more.
    """


class ConfigError(ShpeftError):
    """A configuration is invalid."""


class MissingExtra(ShpeftError):
    """An optional package is not installed."""


class OutOfMemory(ShpeftError):
    """The memory ran out."""


class DatasetError(ShpeftError):
    """A dataset cannot be used."""


class EmptyDataset(DatasetError):
    """There are no images, or fewer than two classes."""


class UnreadableImage(DatasetError):
    """A file cannot be decoded as an image."""


class ClassMismatch(DatasetError):
    """Two lists of classes that must agree differ."""


class Leakage(DatasetError):
    """The same case is in more than one split."""


class BackboneError(ShpeftError):
    """A backbone cannot be created or used."""


class UnknownBackbone(BackboneError):
    """No backbone has this name."""


class WeightsUnavailable(BackboneError):
    """Pretrained weights could not be read or downloaded."""


class CannotSplit(BackboneError):
    """A backbone cannot be split into two parts at the input of a block."""


class SelectionError(ShpeftError):
    """Scores and a budget do not fit together."""


class EmptySupport(SelectionError):
    """The budget selects no weight."""


class DeltaError(ShpeftError):
    """A delta cannot be loaded, saved or applied."""


class DeltaFormat(DeltaError):
    """A file is not a valid delta file."""


class BaseMismatch(DeltaError):
    """A delta was trained on other base weights than those of this backbone."""


class TrainingError(ShpeftError):
    """Fine-tuning cannot continue."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite."""


class CheckpointMismatch(TrainingError):
    """A checkpoint was written with other base weights, images or settings."""


class DiagnosisError(ShpeftError):
    """An image cannot be diagnosed as asked."""


class RunError(ShpeftError):
    """A run folder cannot be used."""


class Cancelled(Exception):
    """Raised by a progress callback to stop the work; all changes are undone."""


class Interrupted(Cancelled):
    """The process is ending; the user did not cancel the run."""


LISTED = 50
"""Maximum number of files that an error lists."""


def with_file_notes(error: E, files: Sequence[Sequence[str]]) -> E:
    """Return the error with a note for each file that caused it.

    The command line, the app and tracebacks show notes. A run stores the message without them, because a file name may
    contain a patient's name.

    Args:
        error: the error to add notes to.
        files: (name, reason) pairs.
    """
    for name, reason in files[:LISTED]:
        error.add_note(f"{name}: {reason}")
    if len(files) > LISTED:
        error.add_note(f"and {len(files) - LISTED:,} more.")
    return error


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an error, see :func:`with_file_notes`."""
    return list(getattr(error, "__notes__", ()))


def did_you_mean(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return a sentence with the nearest known names, or with all names if none is near and there are few.

    Examples:
        >>> did_you_mean("fundsu", ["fundus", "ultrasound"])
        'Did you mean fundus?'
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=count, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}."
    return ""

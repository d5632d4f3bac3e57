"""Compare finished runs: paired metrics, and the overlap of the selected weights."""

from collections.abc import Callable, Sequence
from typing import Any

from shpeft.backbones import WeightInfo
from shpeft.delta.file import read_header
from shpeft.errors import ClassMismatch, SelectionError
from shpeft.evaluation.by_task import difference
from shpeft.runs import RunFolder
from shpeft.selection.overlap import Overlap, overlap
from shpeft.selection.set_overlap import Overlaps, overlaps
from shpeft.support.jsonable import to_jsonable


def paired_difference(a: RunFolder, b: RunFolder) -> dict[str, Any] | None:
    """Return the paired differences a − b of every metric, or None if the test images or classes differ."""
    try:
        differences: dict[str, Any] = to_jsonable(difference(a.predictions.test(), b.predictions.test()))
    except ClassMismatch:
        return None
    return differences


def overlap_within(folder: RunFolder, a: str = "task-specific", b: str = "task-agnostic") -> Overlap:
    """Return the overlap of the supports that two scores of one run select."""
    return overlap(folder.scores.support(a), folder.scores.support(b), folder.scores.weight_infos())


def overlap_between(a: RunFolder, b: RunFolder) -> Overlap:
    """Return the overlap of the selected weights of two runs of one backbone.

    Raises:
        SelectionError: their backbones, base weights or scopes differ.
    """
    return overlap(a.scores.support(), b.scores.support(), _same_weights([a, b]))


def overlaps_across(folders: Sequence[RunFolder], which: str = "hybrid") -> Overlaps:
    """Return the overlap of the selected weights of several runs of one backbone.

    Args:
        which: the score that selects: ``hybrid task-specific task-agnostic``.

    Raises:
        SelectionError: their backbones, base weights or scopes differ; the message says which.
    """
    infos = _same_weights(folders)
    return overlaps({folder.name: folder.scores.support(which) for folder in folders}, infos)


def _same_weights(folders: Sequence[RunFolder]) -> tuple[WeightInfo, ...]:
    """Return the eligible weights that the runs share.

    Raises:
        SelectionError: the runs adapt different bases or scopes.
    """
    _agree(folders, lambda folder: folder.config.backbone.name, "adapt different backbones", "the same backbone")
    _agree(folders, _base, "start from different base weights", "the same base weights")
    _agree(
        folders,
        lambda folder: folder.scores.weight_infos(),
        "have different eligible weights",
        "the same image size and scope",
        lambda folder: (
            f"scope {folder.config.selection.scope}, {sum(i.numel for i in folder.scores.weight_infos()):,} weights"
        ),
    )
    return folders[0].scores.weight_infos()


def _base(folder: RunFolder) -> str:
    """Return the fingerprint of a run's base weights, or their name in its configuration while it has no delta."""
    if folder.delta_path.exists():
        return str(read_header(folder.delta_path)["base"][:12])
    return folder.config.backbone.weights


def _agree(
    folders: Sequence[RunFolder],
    property_of: Callable[[RunFolder], Any],
    problem: str,
    remedy: str,
    text: Callable[[RunFolder], str] | None = None,
) -> None:
    """Check that all runs have the same property.

    Raises:
        SelectionError: they differ; the message groups the runs.
    """
    groups: dict[Any, list[RunFolder]] = {}
    for folder in folders:
        groups.setdefault(property_of(folder), []).append(folder)
    if len(groups) > 1:
        which = "; ".join(
            f"{', '.join(folder.name for folder in group)}: {(text or property_of)(group[0])}"
            for group in groups.values()
        )
        raise SelectionError(
            f"These runs cannot be compared weight by weight, because they {problem}: {which}. Choose runs of {remedy}."
        )

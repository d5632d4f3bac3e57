"""What can be done with finished runs: open one for diagnosis, test it again, compare what was chosen."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shpeft.backbones import Backbone, WeightInfo, create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset
from shpeft.delta import Placement, SparseDelta
from shpeft.deltafile import load_delta, read_header
from shpeft.errors import ClassMismatch, RunError, SelectionError
from shpeft.evaluation import Predictions, difference, evaluate, predict
from shpeft.images import Decoding
from shpeft.overlaps import Overlap, Overlaps, overlap, overlaps
from shpeft.progress import Progress, silent
from shpeft.runs import RunFolder
from shpeft.runs.formats import plain
from shpeft.trust import NoveltyDetector, Trust


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, ready to diagnose with. Its weights are in memory once.

    Attributes:
        backbone: the pretrained backbone with the delta applied to it.
        placement: the delta's, which holds the pretrained entries.
        trust, novelty: what its validation and training images say of its answers; None of a run of an older version.
    """

    name: str
    config: RunConfig
    backbone: Backbone
    placement: Placement
    delta: SparseDelta
    header: dict[str, Any]
    trust: Trust | None = None
    novelty: NoveltyDetector | None = None

    @property
    def decoding(self) -> Decoding:
        """How images are shown to it: as they were in training."""
        return Decoding(self.config.dataset.window, self.config.dataset.frame)

    @contextmanager
    def pretrained(self) -> Iterator[Backbone]:
        """The pretrained backbone, to which the delta belongs; it is ``backbone``, fine-tuned again afterwards."""
        with self.placement.lifted():
            yield self.backbone


def load_run(folder: RunFolder, device: str = "auto", weights: str | None = None) -> LoadedRun:
    """Open a finished run for diagnosis.

    Args:
        weights: where the base weights are now, when they are no longer where the run found them.

    Raises:
        RunError: the run is not finished.
        DeltaError, BackboneError: its delta or its base weights cannot be used.
    """
    state = folder.state
    if state.status != "finished":
        raise RunError(
            f"The run {folder.name} is {state.status}, and only finished runs can be used. {state.message}".rstrip()
        )
    header = read_header(folder.delta_path)
    backbone = create_backbone(
        header["backbone"],
        classes=header["classes"],
        weights=weights or folder.config.backbone.weights,
        image_size=header["image_size"],
        seed=folder.config.seed,
        device=resolve_device(device),
    )
    delta = load_delta(folder.delta_path, base=backbone)
    placement = Placement(backbone, delta).__enter__()
    placement.write(delta.values)
    return LoadedRun(folder.name, folder.config, backbone, placement, delta, header, folder.trust(), folder.novelty())


def evaluate_run(
    folder: RunFolder, source: str | None = None, *, device: str = "auto", progress: Progress = silent
) -> tuple[Predictions, dict[str, Any]]:
    """Test a finished run again, on its own test images or on those of another dataset of the same classes.

    Returns:
        the predictions, and ``{"dataset": name, "finetuned": metrics}``.
    """
    loaded = load_run(folder, device)
    wanted = loaded.config.dataset.model_dump() | ({"source": source} if source else {})
    data = load_dataset(**wanted, seed=loaded.config.seed, progress=progress)
    predictions = predict(loaded.backbone, data.test, progress=progress)
    return predictions, {"dataset": data.name, "finetuned": evaluate(predictions).to_dict()}


def paired_difference(a: RunFolder, b: RunFolder) -> dict[str, Any] | None:
    """The differences a − b of every metric, paired; None where the runs were tested on different images or classes."""
    try:
        found: dict[str, Any] = plain(difference(a.predictions(), b.predictions()))
    except ClassMismatch:
        return None
    return found


def overlap_in(folder: RunFolder, a: str = "task-specific", b: str = "task-agnostic") -> Overlap:
    """How far two choices of one run agree."""
    return overlap(folder.support(a), folder.support(b), folder.weight_infos())


def overlap_between(a: RunFolder, b: RunFolder) -> Overlap:
    """How far the chosen weights of two runs of one backbone agree.

    Raises:
        SelectionError: their backbones, base weights or scopes differ.
    """
    return overlap(a.support(), b.support(), _same_weights([a, b]))


def overlaps_across(folders: Sequence[RunFolder], which: str = "hybrid") -> Overlaps:
    """How far the weights that several runs of one backbone chose agree.

    Args:
        which: the chosen weights, or what one half of the score would choose: ``hybrid task-specific task-agnostic``.

    Raises:
        SelectionError: their backbones, base weights or scopes differ; the sentence says which.
    """
    infos = _same_weights(folders)
    return overlaps({folder.name: folder.support(which) for folder in folders}, infos)


def _same_weights(folders: Sequence[RunFolder]) -> tuple[WeightInfo, ...]:
    """The eligible weights of runs that adapt the same base in the same scope."""
    _agree(folders, lambda folder: folder.config.backbone.name, "adapt different backbones", "the same backbone")
    _agree(folders, _base, "start from different base weights", "the same base weights")
    _agree(
        folders,
        lambda folder: folder.weight_infos(),
        "had different weights to choose from",
        "the same image size and scope",
        lambda folder: (
            f"scope {folder.config.selection.scope}, {sum(i.numel for i in folder.weight_infos()):,} weights"
        ),
    )
    return folders[0].weight_infos()


def _base(folder: RunFolder) -> str:
    """The fingerprint of a run's base weights; where it has no delta yet, what its configuration says of them."""
    if folder.delta_path.exists():
        return str(read_header(folder.delta_path)["base"][:12])
    return folder.config.backbone.weights


def _agree(
    folders: Sequence[RunFolder],
    of: Callable[[RunFolder], Any],
    differ: str,
    wanted: str,
    words: Callable[[RunFolder], str] | None = None,
) -> None:
    groups: dict[Any, list[RunFolder]] = {}
    for folder in folders:
        groups.setdefault(of(folder), []).append(folder)
    if len(groups) > 1:
        which = "; ".join(
            f"{', '.join(folder.name for folder in group)}: {(words or of)(group[0])}" for group in groups.values()
        )
        raise SelectionError(
            f"These runs cannot be compared weight by weight, because they {differ}: {which}. Choose runs of {wanted}."
        )

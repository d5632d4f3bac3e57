"""What can be done with finished runs: open one for diagnosis, test it again, compare what was chosen."""

from dataclasses import dataclass
from typing import Any

from shpeft.backbones import Backbone, create_backbone, resolve_device
from shpeft.config import RunConfig
from shpeft.datasets import load_dataset
from shpeft.delta import SparseDelta
from shpeft.deltafile import load_delta, read_header
from shpeft.errors import ClassMismatch, RunError, SelectionError
from shpeft.evaluation import Predictions, difference, evaluate, predict
from shpeft.images import Decoding
from shpeft.progress import Progress, silent
from shpeft.runs import RunFolder
from shpeft.runs.formats import plain
from shpeft.selection import Overlap, overlap
from shpeft.trust import NoveltyDetector, Trust


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, ready to diagnose with.

    Attributes:
        backbone: a copy of the base with the delta written into it.
        base: the pretrained backbone, to which the delta belongs.
        trust, novelty: what its validation and training images say of its answers; None of a run of an older version.
    """

    name: str
    config: RunConfig
    backbone: Backbone
    base: Backbone
    delta: SparseDelta
    header: dict[str, Any]
    trust: Trust | None = None
    novelty: NoveltyDetector | None = None

    @property
    def decoding(self) -> Decoding:
        """How images are shown to it: as they were in training."""
        return Decoding(self.config.dataset.window, self.config.dataset.frame)


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
    base = create_backbone(
        header["backbone"],
        classes=header["classes"],
        weights=weights or folder.config.backbone.weights,
        image_size=header["image_size"],
        seed=folder.config.seed,
        device=resolve_device(device),
    )
    delta = load_delta(folder.delta_path, base=base)
    return LoadedRun(
        folder.name, folder.config, delta.merge(base), base, delta, header, folder.trust(), folder.novelty()
    )


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
        SelectionError: their backbones or scopes differ.
    """
    infos = a.weight_infos()
    if infos != b.weight_infos():
        raise SelectionError(
            f"The runs {a.name} and {b.name} cannot be compared weight by weight: different weights were eligible. "
            "Compare runs of the same backbone, image size and scope."
        )
    return overlap(a.support(), b.support(), infos)

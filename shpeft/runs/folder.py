"""Run folders: everything that a run was asked and everything that it found, on disk.

A folder holds ``config.yaml environment.json state.json metrics.jsonl metrics.json predictions.csv predictions_val.csv
trust.json novelty.safetensors support.safetensors importance.npz details.npz delta.safetensors README.md``,
``notes.md`` where somebody wrote notes, ``checkpoint/`` until the run is finished, ``ending`` from when it is asked to
end before its time until it has, and ``error.log`` after a bug. Every write is atomic.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.config import RunConfig
from shpeft.errors import ConfigError, RunError, did_you_mean
from shpeft.files import write_atomic
from shpeft.runs import checkpoints, formats
from shpeft.runs.detailed import DetailFolder
from shpeft.runs.state import CHECKPOINT, ENDING, RunState

if TYPE_CHECKING:
    from shpeft.backbones import WeightInfo
    from shpeft.selection import Support
    from shpeft.summaries import LayerSummary
    from shpeft.training import Checkpoint, EpochReport

OWN_FILES = (
    "config.yaml",
    "environment.json",
    "state.json",
    "metrics.jsonl",
    "metrics.json",
    "predictions.csv",
    "predictions_val.csv",
    "trust.json",
    "novelty.safetensors",
    "support.safetensors",
    "importance.npz",
    "details.npz",
    "delta.safetensors",
    "README.md",
    "notes.md",
    "error.log",
    ENDING,
)
FEATURES = "features"
"""A folder of the run's own: what it derives from the images while it runs, deleted when it ends."""

BATCHES = "batches"
"""A folder of the run's own: what its model said of many images, under opaque ids; deleted with the run."""


class RunFolder(DetailFolder):
    """One run on disk. Use ``create`` or ``open``."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        """Wrap a folder that exists; nothing is read or written."""
        super().__init__(path)
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: RunConfig, *, overwrite: bool = False) -> "RunFolder":
        """Make the folder of a new run, queued and held by this object.

        Args:
            path: where; parents are made. An empty folder is fine, anything else in the way is not.
            config: what is to be run.
            overwrite: let the new run take the place of an older one (and of nothing else).

        Raises:
            RunError: something is in the way, or another process works on this run.
        """
        path = Path(path)
        _refuse_what_is_in_the_way(path, overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path, _anchored(config))
            held = folder._lock.acquire()
        except OSError as error:
            raise RunError(f"The run folder {path} cannot be made: {error.strerror}. Choose another place.") from None
        if not held:
            raise RunError(f"The run {path.name} is being worked on. Wait until it ends, cancel it, or choose a name.")
        for name in OWN_FILES:
            (path / name).unlink(missing_ok=True)
        for name in (FEATURES, BATCHES, CHECKPOINT):
            shutil.rmtree(path / name, ignore_errors=True)
        write_atomic(path / "config.yaml", folder.config.to_yaml())
        folder._write_state(RunState("queued", pid=os.getpid(), updated=time.time()))
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open a run that exists.

        Raises:
            RunError: there is no run, or its configuration or state cannot be read.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"There is no run folder {path}. {_neighbours(path)}".rstrip())
        if not (path / "state.json").exists() and not (path / "config.yaml").exists():
            raise RunError(f"{path} is not a run folder: it has no config.yaml. {_neighbours(path)}".rstrip())
        try:
            folder = cls(path, RunConfig.of_run(path / "config.yaml"))
        except ConfigError as error:
            raise RunError(f"The run {path.name} is damaged. {error}") from None
        _ = folder.state
        return folder

    @property
    def delta_path(self) -> Path:
        """The delta file; it exists when the run is finished."""
        return self.path / "delta.safetensors"

    def write_history(self, reports: "Sequence[EpochReport]") -> None:
        """Write ``metrics.jsonl``, the epochs so far."""
        write_atomic(self.path / "metrics.jsonl", formats.reports_text(reports))

    def history(self) -> "list[EpochReport]":
        """The epochs so far, in order."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        with self._reading(path.name):
            return formats.parse_reports(path.read_text(encoding="utf-8"))

    def write_checkpoint(self, checkpoint: "Checkpoint", score: str) -> None:
        """Write where training stands; ``score`` says what the weights were chosen by."""
        (self.path / CHECKPOINT).mkdir(exist_ok=True)
        data = checkpoints.checkpoint_bytes(checkpoint, self.config.portable(), score)
        write_atomic(self.path / CHECKPOINT / checkpoints.FILE, data)

    def resumption(self) -> "checkpoints.Resumption | None":
        """What the run goes on from; None where it begins at the beginning.

        Raises:
            RunError: the checkpoint is damaged, or of another configuration.
        """
        path = self.path / CHECKPOINT / checkpoints.FILE
        if not path.exists():
            return None
        with self._reading(f"{CHECKPOINT}/{path.name}"):
            found = checkpoints.parse_checkpoint(path.read_bytes())
        if found.config.portable() != self.config.portable():
            raise RunError(
                f"The config.yaml of the run {self.name} was changed after its last checkpoint, and training cannot go "
                "on under other settings. Put it back and resume again, or start a new run with it."
            )
        return found

    @property
    def notes(self) -> str:
        """What somebody wrote about the run."""
        path = self.path / "notes.md"
        if not path.exists():
            return ""
        with self._reading(path.name):
            return path.read_text(encoding="utf-8")

    def write_notes(self, text: str) -> None:
        """Keep notes with the run; an empty text takes them away."""
        if text.strip():
            write_atomic(self.path / "notes.md", text.strip() + "\n")
        else:
            (self.path / "notes.md").unlink(missing_ok=True)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``; NaN becomes null."""
        write_atomic(self.path / "metrics.json", json.dumps(formats.plain(metrics), indent=1) + "\n")

    def metrics(self) -> dict[str, Any] | None:
        """What ``metrics.json`` says, None while there is none."""
        path = self.path / "metrics.json"
        if not path.exists():
            return None
        with self._reading(path.name):
            found = json.loads(path.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
            return found

    def write_supports(self, supports: "Mapping[str, Support]", infos: "Sequence[WeightInfo]") -> None:
        """Write the chosen weights, and what each half alone would choose: ``hybrid task-specific task-agnostic``.

        Args:
            infos: the weights that were eligible.
        """
        write_atomic(self.path / "support.safetensors", formats.support_bytes(supports, infos))

    def support(self, which: str = "hybrid") -> "Support":
        """The chosen weights ("hybrid", whatever the score is called), or those of one half of the score."""
        with self._reading("support.safetensors"):
            return formats.parse_support((self.path / "support.safetensors").read_bytes(), which)

    def weight_infos(self) -> "tuple[WeightInfo, ...]":
        """The weights that were eligible, in the model's order; no model is made."""
        with self._reading("support.safetensors"):
            return formats.parse_infos((self.path / "support.safetensors").read_bytes())

    def write_summaries(self, summaries: "Mapping[str, Sequence[LayerSummary]]") -> None:
        """Write the scores of each layer, keyed as the supports are."""
        write_atomic(self.path / "importance.npz", formats.summaries_bytes(summaries))

    def summaries(self, which: str = "hybrid") -> "list[LayerSummary]":
        """The scores of each layer."""
        with self._reading("importance.npz"):
            return formats.parse_summaries((self.path / "importance.npz").read_bytes(), which)

    def write_environment(self) -> None:
        """Write ``environment.json``: the versions of everything that the numbers depend on."""
        write_atomic(self.path / "environment.json", json.dumps(formats.environment(), indent=1) + "\n")

    def write_card(self, text: str) -> None:
        """Write ``README.md``, the model card."""
        write_atomic(self.path / "README.md", text)

    def discard(self) -> None:
        """Delete the run's own files, and the folder when nothing else is in it."""
        self.release()
        for name in (*OWN_FILES, ".lock"):
            (self.path / name).unlink(missing_ok=True)
        for name in (FEATURES, BATCHES, CHECKPOINT):
            shutil.rmtree(self.path / name, ignore_errors=True)
        with suppress(OSError):
            self.path.rmdir()


def _refuse_what_is_in_the_way(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, and a run needs a folder. Choose another place.")
    present = {entry.name for entry in path.iterdir()} - {".lock"} if path.exists() else set()
    if not present:
        return
    if "config.yaml" not in present:
        raise RunError(f"The folder {path} is not empty and holds no run: nothing was touched. Choose another place.")
    if not overwrite:
        raise RunError(f"{path} already holds a run. Choose another place, or overwrite it (--overwrite).")


def _anchored(config: RunConfig) -> RunConfig:
    """The configuration with local files and folders as absolute paths, so that it holds in any working directory."""

    def anchor(place: str) -> str:
        return str(Path(place).resolve()) if Path(place).exists() else place

    weights, source = config.backbone.weights, config.dataset.source
    recipe, equals, place = source.partition("=") if source.startswith("recipe:") else ("", "", source)
    if weights not in ("pretrained", "random"):
        weights = anchor(weights)
    return config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update={"weights": weights}),
            "dataset": config.dataset.model_copy(update={"source": recipe + equals + anchor(place)}),
        }
    )


def _neighbours(path: Path) -> str:
    """A hint at the runs beside a path that is none."""
    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if (entry / "config.yaml").exists()]
    return did_you_mean(path.name, names) if names else ""

"""Run folders: the configuration of a run and its results, on disk.

A folder holds ``config.yaml environment.json state.json metrics.jsonl metrics.json predictions.csv predictions_val.csv
trust.json novelty.safetensors novelty.csv probe.safetensors support.safetensors importance.npz details.npz
delta.safetensors README.md``,
``similar.safetensors`` if the configuration stores features, ``notes.md`` if the user wrote notes,
``owner.json`` if an app with accounts made it, ``checkpoint/``
until the run is finished, ``ending`` from a request to end the run until its worker has carried it out, and
``error.log`` after a bug. Every write is atomic.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shpeft.config.schema import RunConfig
from shpeft.errors import ConfigError, RunError, did_you_mean
from shpeft.runs.checkpoint import FOLDER as CHECKPOINT
from shpeft.runs.checkpoint import CheckpointFile
from shpeft.runs.example import is_example, refuse_example
from shpeft.runs.history import History
from shpeft.runs.metrics import MetricsFile
from shpeft.runs.notes import Notes
from shpeft.runs.owner import OWNER
from shpeft.runs.predictions import PredictionFiles
from shpeft.runs.probe import ProbeFile
from shpeft.runs.reliability import ReliabilityFiles
from shpeft.runs.scores import ScoreFiles
from shpeft.runs.similar import NAME as SIMILAR
from shpeft.runs.similar import TrainingFeaturesFile
from shpeft.runs.state import END_REQUEST, RunState, StateFile
from shpeft.support.atomic_files import is_leftover, write_atomic
from shpeft.support.environment import environment

FILES = (
    "config.yaml",
    "environment.json",
    "state.json",
    "metrics.jsonl",
    "metrics.json",
    "predictions.csv",
    "predictions_val.csv",
    "trust.json",
    "novelty.safetensors",
    "novelty.csv",
    "probe.safetensors",
    SIMILAR,
    "support.safetensors",
    "importance.npz",
    "details.npz",
    "delta.safetensors",
    "README.md",
    "notes.md",
    OWNER,
    "error.log",
    END_REQUEST,
)
FEATURES = "features"
"""The folder of cached features inside a run folder; it derives from the images and is deleted when the run ends."""

BATCHES = "batches"
"""The folder of batch results inside a run folder, under opaque ids; it is deleted with the run."""

FOLDERS = (FEATURES, BATCHES, CHECKPOINT)


class RunFolder:
    """One run on disk; make one with ``create`` or ``open``.

    Attributes:
        path: the folder.
        config: the configuration of the run.
        state: status, lock and transitions.
        history: the epochs so far.
        scores: selected weights, layer summaries, rankings, attention heads and grids.
        predictions: of the test and validation images.
        reliability: calibration, decision rules and the OOD detector.
        similar: features of training images, if the configuration stores them.
        metrics: the numbers of the finished run.
        probe: the head of the linear probe.
        checkpoint: the state of training of an unfinished run.
        notes: the user's notes.

    Examples:
        >>> import tempfile
        >>> from shpeft import RunConfig
        >>> with tempfile.TemporaryDirectory() as root:
        ...     run = RunFolder.create(f"{root}/first", RunConfig.parse({"dataset": {"source": "phantom:fundus"}}))
        ...     run.notes.write("Try a larger budget next.")
        ...     again = RunFolder.open(f"{root}/first")
        ...     print(again.name, again.state.status, again.notes.read().strip())
        ...     run.discard()
        first queued Try a larger budget next.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        """Wrap a folder that exists; nothing is read or written."""
        self.path, self.config = path, config
        self.checkpoint = CheckpointFile(path, config)
        self.state = StateFile(path, self.checkpoint)
        self.history = History(path)
        self.scores = ScoreFiles(path)
        self.predictions = PredictionFiles(path)
        self.reliability = ReliabilityFiles(path)
        self.similar = TrainingFeaturesFile(path)
        self.metrics = MetricsFile(path)
        self.probe = ProbeFile(path)
        self.notes = Notes(path)

    def __repr__(self) -> str:
        return f"RunFolder({self.name})"

    @classmethod
    def create(cls, path: str | Path, config: RunConfig, *, overwrite: bool = False) -> "RunFolder":
        """Make the folder of a new run, queued and locked by this object.

        Args:
            path: the folder; missing parents are made, and an empty folder may exist.
            config: the configuration to run.
            overwrite: replace an older run; nothing else is ever replaced.

        Raises:
            RunError: the folder is not empty, or another process works on this run.
        """
        path = Path(path)
        _check_free(path, overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path, with_absolute_paths(config))
            locked = folder.state.try_lock()
        except OSError as error:
            raise RunError(f"The run folder {path} cannot be made: {error.strerror}. Choose another path.") from None
        if not locked:
            raise RunError(f"The run {path.name} is being worked on. Wait until it ends, cancel it, or choose a name.")
        for name in (*FILES, *filter(is_leftover, os.listdir(path))):
            (path / name).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(path / name, ignore_errors=True)
        write_atomic(path / "config.yaml", folder.config.to_yaml())
        folder.state.write(RunState("queued", pid=os.getpid(), updated=time.time()))
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open the folder of an existing run.

        Raises:
            RunError: there is no run, or its configuration or state cannot be read.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"There is no run folder {path}. {_hint(path)}".rstrip())
        if not (path / "state.json").exists() and not (path / "config.yaml").exists():
            raise RunError(f"{path} is not a run folder: it has no config.yaml. {_hint(path)}".rstrip())
        try:
            folder = cls(path, RunConfig.of_run(path / "config.yaml"))
        except ConfigError as error:
            raise RunError(f"The run {path.name} is damaged. {error}") from None
        folder.state.read()
        return folder

    @property
    def name(self) -> str:
        """The folder's name, which is the run's name."""
        return self.path.name

    @property
    def delta_path(self) -> Path:
        """The path of the delta file; it exists when the run is finished."""
        return self.path / "delta.safetensors"

    @property
    def is_example(self) -> bool:
        """Whether it is the example that ships with shpeft, which is read-only."""
        return is_example(self.path)

    def write_environment(self) -> None:
        """Write ``environment.json``: the library versions that the numbers depend on."""
        write_atomic(self.path / "environment.json", json.dumps(environment(), indent=1) + "\n")

    def write_card(self, text: str) -> None:
        """Write ``README.md``, the model card."""
        write_atomic(self.path / "README.md", text)

    def move(self, path: Path) -> None:
        """Move the folder; this object still names the old path.

        Raises:
            RunError: another process works on this run, or it is the example.
            OSError: the folder cannot be moved to ``path``.
        """
        refuse_example(self.path)
        self.state.lock()
        try:
            if os.name == "nt":  # Windows does not move a folder with an open file
                self.state.unlock()
            os.rename(self.path, path)
        finally:
            self.state.unlock()

    def discard(self) -> None:
        """Delete the run's own files, and the folder if nothing else is in it."""
        self.state.unlock()
        for name in (*FILES, ".lock"):
            (self.path / name).unlink(missing_ok=True)
        for name in FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        with suppress(OSError):
            self.path.rmdir()


@contextmanager
def temporary_run(config: RunConfig) -> Iterator[RunFolder]:
    """Yield the folder of a run that is deleted afterwards: what a process of a team that does not lead writes."""
    with tempfile.TemporaryDirectory(prefix="shpeft-") as root:
        folder = RunFolder.create(Path(root) / "run", config)
        try:
            yield folder
        finally:
            folder.state.unlock()


def _check_free(path: Path, overwrite: bool) -> None:
    """Check that a run folder can be made at ``path``, replacing at most an older run.

    Raises:
        RunError: something else is in the way.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, and a run needs a folder. Choose another path.")
    names = os.listdir(path) if path.exists() else []
    present = {name for name in names if name != ".lock" and not is_leftover(name)}
    if not present:
        return
    if "config.yaml" not in present:
        raise RunError(f"The folder {path} is not empty and holds no run: nothing was changed. Choose another path.")
    if not overwrite:
        raise RunError(f"{path} already holds a run. Choose another path, or overwrite it (--overwrite).")


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths, so that it holds in any working directory."""

    def absolute(path: str) -> str:
        return str(Path(path).resolve()) if Path(path).exists() else path

    weights, source = config.backbone.weights, config.dataset.source
    recipe, equals, path = source.partition("=") if source.startswith("recipe:") else ("", "", source)
    if weights not in ("pretrained", "random"):
        weights = absolute(weights)
    return config.model_copy(
        update={
            "backbone": config.backbone.model_copy(update={"weights": weights}),
            "dataset": config.dataset.model_copy(update={"source": recipe + equals + absolute(path)}),
        }
    )


def _hint(path: Path) -> str:
    """Return a hint at the runs beside a path that is not a run; empty if there are none."""
    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir() if (entry / "config.yaml").exists()]
    return did_you_mean(path.name, names) if names else ""

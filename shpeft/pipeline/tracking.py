"""Follow runs in TensorBoard, MLflow, Weights & Biases or trackio: settings, epochs and test metrics, nothing else.

Everything stays on this computer unless a server is named. No image, file name, path or case is sent.
"""

import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from shpeft.config.documents import flat
from shpeft.config.schema import RunConfig
from shpeft.errors import ConfigError, MissingExtra, did_you_mean
from shpeft.support.formatting import TITLES
from shpeft.training.loop import EpochReport

PROJECT = "shpeft"
"""The project, or experiment, that runs are filed under."""

EPOCH = ("loss", "val_loss", "val_auroc", "val_balanced_accuracy")
"""Numbers of an epoch."""


class Tracker(Protocol):
    """Where the numbers of one run go."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Record the numbers of an epoch."""

    def finish(self, values: Mapping[str, float]) -> None:
        """Record the results of the run, and end it."""

    def abort(self) -> None:
        """End a run that has no results."""


class TensorBoard:
    """Event files in a folder, for ``tensorboard --logdir FOLDER``."""

    def __init__(self, folder: Path, target: str, name: str, settings: Mapping[str, str]) -> None:
        if "://" in target:
            raise ConfigError(f"TensorBoard reads a folder; {target} is an address. Give tensorboard=FOLDER.")
        _module("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        writer: Any = SummaryWriter  # it has no types
        self._writer = writer(str(Path(target or folder / "tensorboard") / name))
        self._writer.add_text("settings", "".join(f"    {key}: {value}\n" for key, value in settings.items()))

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write a point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, values: Mapping[str, float]) -> None:
        """Write the results as points at 0."""
        self.log(0, values)
        self.abort()

    def abort(self) -> None:
        """Close the file."""
        self._writer.close()


class MLflow:
    """A run of MLflow, in ``mlflow.db`` or on a tracking server."""

    def __init__(self, folder: Path, target: str, name: str, settings: Mapping[str, str]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for package in ("alembic", "sqlalchemy"):
            _module(package, "mlflow")
        client = _module("mlflow", "mlflow").MlflowClient
        uri = target or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        self._client = client(uri if "://" in uri else f"sqlite:///{Path(uri).resolve()}")
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(PROJECT)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def finish(self, values: Mapping[str, float]) -> None:
        """Log the results, and end the run."""
        self.log(0, values)
        self._client.set_terminated(self._run, "FINISHED")

    def abort(self) -> None:
        """End the run as killed."""
        self._client.set_terminated(self._run, "KILLED")


class WandB:
    """A run of Weights & Biases, offline in a folder, or of trackio, whose interface is the same."""

    module = "wandb"

    def __init__(self, folder: Path, target: str, name: str, settings: Mapping[str, str]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        module = _module(self.module, self.module)
        self._run = module.init(project=PROJECT, name=name, config=dict(settings), **self._options(folder, target))

    def _options(self, folder: Path, target: str) -> dict[str, Any]:
        import wandb

        server = "://" in target
        quiet = {"console": "off", "silent": True, "disable_git": True, "save_code": False}
        options = {**quiet, "x_disable_meta": True, "x_disable_stats": True}
        return {
            "mode": "online" if server else "offline",
            "dir": str(folder if server or not target else Path(target)),
            "settings": wandb.Settings(**options, **({"base_url": target} if server else {})),
        }

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        self._run.log(dict(values), step=epoch)

    def finish(self, values: Mapping[str, float]) -> None:
        """Log the results after the last step, and end the run."""
        self._run.log(dict(values))
        self._run.finish()

    def abort(self) -> None:
        """End the run."""
        self._run.finish()


class Trackio(WandB):
    """A run of trackio, in its folder on this computer, or in a Space that is named."""

    module = "trackio"

    def _options(self, folder: Path, target: str) -> dict[str, Any]:
        if target and not target.startswith(SPACES):
            raise ConfigError(
                f"trackio was given {target!r}, and records in a folder of its own, which TRACKIO_DIR names, or in a "
                f"Space. Give trackio alone, or trackio={SPACES}OWNER/NAME."
            )
        return {"space_id": target.removeprefix(SPACES)} if target else {}


SPACES = "https://huggingface.co/spaces/"

TRACKERS: dict[str, Callable[[Path, str, str, Mapping[str, str]], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
    "trackio": Trackio,
}
"""By the name that ``--track`` takes."""


@contextmanager
def tracked(spec: str | None, name: str, config: RunConfig, folder: Path) -> Iterator[Tracker]:
    """Open a tracker for a run; it is aborted where the run raises.

    Args:
        spec: ``NAME`` or ``NAME=WHERE``: one of :data:`TRACKERS`, and a folder or the address of a server. None:
            nothing is tracked.
        name: of the run.
        config: its settings; paths are left out.
        folder: where files go if no folder is named.

    Raises:
        ConfigError: there is no such tracker.
        MissingExtra: its package is not installed.

    Examples:
        >>> from pathlib import Path
        >>> from shpeft import EpochReport, RunConfig
        >>> with tracked(None, "first", RunConfig(), Path()) as tracker:
        ...     tracker.log(1, epoch_values(EpochReport(1, 2, 0.5, 0.6, 0.8, 0.7, 1.0, True)))
    """
    if spec is None:
        yield Untracked()
        return
    kind, _, target = spec.partition("=")
    if kind not in TRACKERS:
        raise ConfigError(f"There is no tracker {kind!r}. {did_you_mean(kind, TRACKERS)}")
    settings = {key: str(value) for key, value in flat(config.portable().model_dump(mode="json")).items()}
    tracker = TRACKERS[kind](folder, target, name, settings)
    try:
        yield tracker
    except BaseException:
        tracker.abort()
        raise


class Untracked:
    """Records nothing."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def finish(self, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


def epoch_values(report: EpochReport) -> dict[str, float]:
    """Return the finite numbers of an epoch by name; the start has no training loss."""
    values = {name: float(getattr(report, name)) for name in EPOCH}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def result_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the test metrics of a run by name, ``test/macro_auroc`` and the like, those of the probe beside them."""
    values = {
        f"test/{name}{'_probe' * (model == 'probe')}": metrics[model][name]["value"]
        for model in ("finetuned", "probe")
        for name in TITLES
        if name in metrics[model]
    }
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _module(name: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtra(
            f"Tracking with {extra} needs the package {name}, which is not installed. Install it: "
            f"pip install 'shpeft[{extra}]'"
        ) from None

"""Load a finished run for diagnosis, and evaluate it again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from shpeft.backbones import Backbone, create_backbone, resolve_device
from shpeft.config.schema import RunConfig
from shpeft.datasets import load_dataset
from shpeft.datasets.external import load_external
from shpeft.delta.file import load_delta, read_header, task_of
from shpeft.delta.sparse_delta import AppliedDelta, SparseDelta
from shpeft.errors import RunError
from shpeft.evaluation import AnyReliability, OODDetector
from shpeft.evaluation.by_task import change, difference, metrics_of
from shpeft.evaluation.findings import as_known_in
from shpeft.evaluation.predict import Predictions, predict
from shpeft.images import Decoding, InputTransform
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent
from shpeft.tasks import MultiLabel, Regression

Rules = tuple[AnyReliability | None, OODDetector | None]
"""Calibration and decision rules, and the out-of-distribution detector."""


def read_rules(folder: RunFolder) -> Rules:
    """Return the rules that the folder holds now."""
    return folder.reliability.read(), folder.reliability.detector()


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A finished run, ready for diagnosis; use it in a ``with`` block, or call ``close``.

    Attributes:
        name: the name of the run.
        config: its configuration.
        backbone: the pretrained backbone with the delta applied; the weights are in memory once.
        applied: the applied delta, which holds the pretrained entries.
        delta: the trained values.
        header: the metadata of the delta file.
        reliability: calibration and decision rules; None in a run of an older version.
        ood_detector: the out-of-distribution detector; None in a run of an older version.
    """

    name: str
    config: RunConfig
    backbone: Backbone
    applied: AppliedDelta
    delta: SparseDelta
    header: dict[str, Any]
    reliability: AnyReliability | None = None
    ood_detector: OODDetector | None = None

    def __repr__(self) -> str:
        return f"LoadedRun({self.name}, {self.delta.k:,} trained weights of {self.header['backbone']})"

    def __enter__(self) -> "LoadedRun":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore the pretrained weights of ``backbone``, bit for bit; a second call has no effect."""
        self.applied.close()

    def with_rules(self, rules: Rules) -> "LoadedRun":
        """Return this model with other decision rules."""
        return replace(self, reliability=rules[0], ood_detector=rules[1])

    @property
    def decoding(self) -> Decoding:
        """The window and frame with which images were read in training."""
        return Decoding(self.config.dataset.window, self.config.dataset.frame)

    @contextmanager
    def pretrained(self) -> Iterator[Backbone]:
        """Lift the delta inside a ``with`` block: yields ``backbone`` with its pretrained weights."""
        with self.applied.suspended():
            yield self.backbone


def load_run(folder: RunFolder, device: str = "auto", weights: str | None = None) -> LoadedRun:
    """Load a finished run for diagnosis.

    Args:
        folder: the run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        weights: a file of the base weights, if it is no longer where the configuration says.

    Raises:
        RunError: the run is not finished.
        DeltaError, BackboneError: its delta or its base weights cannot be used.

    Examples:
        >>> import tempfile
        >>> import shpeft
        >>> config = shpeft.RunConfig.parse(
        ...     {
        ...         "dataset": {"source": "phantom:fundus?n=36&size=64"},
        ...         "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        ...         "selection": {"budget": 40, "images": 8},
        ...         "training": {"epochs": 1},
        ...     }
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = shpeft.RunFolder.create(f"{root}/first", config)
        ...     metrics = shpeft.run(config, folder)
        ...     with shpeft.load_run(folder, "cpu") as loaded:
        ...         print(loaded)
        LoadedRun(first, 40 trained weights of test_vit)
    """
    state = folder.state.read()
    if state.status != "finished":
        raise RunError(
            f"The run {folder.name} is {state.status}, and only finished runs can be used. {state.message}".rstrip()
        )
    header = read_header(folder.delta_path)
    settings = folder.config.backbone.model_dump() | {"image_size": header["image_size"]}
    backbone = create_backbone(
        **(settings | ({"weights": weights} if weights else {})),
        classes=header["classes"],
        seed=folder.config.seed,
        device=resolve_device(device),
        task=task_of(header),
    )
    backbone.transform = InputTransform.from_dict(header["transform"])  # that of training, wherever the weights are now
    delta = load_delta(folder.delta_path, base=backbone)
    applied = AppliedDelta(backbone, delta).open()
    applied.write(delta.values)
    return LoadedRun(folder.name, folder.config, backbone, applied, delta, header).with_rules(read_rules(folder))


def evaluate_run(
    folder: RunFolder,
    source: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> tuple[Predictions, dict[str, Any]]:
    """Evaluate a finished run again, on its own test images or on all images of external data.

    Args:
        folder: the run folder.
        source: external data with classes of the run; by default the run's own test images.
        settings: settings of a ``DatasetConfig`` that read the external data, in place of the run's.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: the progress callback.

    Returns:
        the predictions, and the metrics: ``dataset``, ``external``, ``finetuned``, and where the run has its linear
        probe, ``probe`` and the paired ``difference``. For external data also ``internal``, the metrics of the internal
        test on the same classes; ``drop``, external − internal; and ``warnings``.

    Raises:
        RunError: the run is not finished.
        DatasetError, DeltaError, BackboneError: the images or the model cannot be opened.
    """
    with load_run(folder, device) as loaded:
        config = loaded.config.dataset
        external = source is not None and source != config.source
        warnings: list[str] = []
        if external:
            reading = {name: getattr(config, name) for name in READING} | dict(settings or {})
            data = load_external(
                str(source), loaded.backbone.classes, task=loaded.backbone.task, **reading, progress=progress
            )
            name, split = data.name, data.split
            warnings += data.warnings
        else:
            own = load_dataset(**config.model_dump(), seed=loaded.config.seed, progress=progress)
            name, split = own.name, own.test.with_classes(loaded.backbone.classes)  # an older run sorted them otherwise
        finetuned = predict(loaded.backbone, split, progress=progress)
        head = folder.probe.read()
        probe = None
        if head is not None:
            with loaded.pretrained() as pretrained, head.applied(pretrained):
                probe = predict(pretrained, split, progress=progress, stage="predictions of the linear probe")
    metrics: dict[str, Any] = {"dataset": name, "external": external, "finetuned": metrics_of(finetuned)}
    if probe is None:
        warnings.append(
            "This run was made by an older version and does not store its linear probe: it is not compared."
        )
    else:
        metrics |= {"probe": metrics_of(probe), "difference": to_jsonable(difference(finetuned, probe))}
    if external:
        metrics |= _beside_internal(folder, finetuned, warnings)
    return finetuned, metrics | {"warnings": warnings}


READING = ("uncertain", "blank", "window", "frame", "columns", "on_unreadable", "cache")
"""Settings of a dataset that also apply to external data."""


def _beside_internal(folder: RunFolder, external: Predictions, warnings: list[str]) -> dict[str, Any]:
    """Return the metrics of the internal test and the change from it, on the classes that the external data have."""
    internal, validation = folder.predictions.test(), folder.predictions.validation()
    seen = {*internal.ids, *(validation.ids if validation else ())}
    if common := sum(case in seen for case in external.ids):
        warnings.insert(0, f"{common:,} of these images are among the run's own validation or test images.")
    present = set(external.labels)
    findings = isinstance(internal.task, MultiLabel)
    every = isinstance(internal.task, MultiLabel | Regression)
    rows = [row for row, label in enumerate(internal.labels) if every or label in present]
    if findings:
        internal = replace(internal, labels=as_known_in(external, internal))
    same = replace(
        internal,
        ids=tuple(internal.ids[row] for row in rows),
        labels=tuple(internal.labels[row] for row in rows),
        groups=tuple(internal.groups[row] for row in rows),
        probabilities=internal.probabilities[rows],
        subgroups=tuple(internal.subgroups[row] for row in rows) if internal.subgroups else (),
    )
    return {"internal": metrics_of(same), "drop": to_jsonable(change(external, same))}

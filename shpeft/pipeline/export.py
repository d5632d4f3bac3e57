"""Export a finished run: merged weights for timm, a program for PyTorch or ONNX, an adapter for peft, or to share."""

import importlib.util
import json
import secrets
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shpeft import NOTICE, __version__
from shpeft.backbones import Backbone, load_timm, save_timm
from shpeft.errors import ConfigError, RunError, ShpeftError, did_you_mean
from shpeft.evaluation import IntervalReliability
from shpeft.pipeline.loaded_run import LoadedRun, load_run
from shpeft.pipeline.peft_format import run_peft, save_peft
from shpeft.pipeline.program_patch import (
    METADATA,
    names_in_onnx,
    onnx_program,
    patch_onnx,
    patch_torch_export,
    undo_entries,
)
from shpeft.runs import RunFolder
from shpeft.runs.shared import SHARED_FILES
from shpeft.tasks import SINGLE_LABEL, Regression

TOLERANCE = 1e-4
"""Largest difference of a logit that a translated program may have, relative to the largest logit."""

BATCHES = (1, 3)
"""Sizes of the batches that a program is checked with."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file or the folder.
        difference: the largest absolute difference of its logits from the run's own; None if there is nothing to run.
    """

    path: Path
    difference: float | None


def export_model(
    run: RunFolder,
    target: str,
    out: Path | None = None,
    *,
    weights: str | None = None,
    program: Path | None = None,
) -> Export:
    """Write a run's model for another program, and check it against the run's own logits.

    Args:
        run: a finished run.
        target: a key of :data:`TARGETS`.
        out: the file or folder to write, which must not exist; None: named after the run, in the working directory.
        weights: a file of the base weights, if it is no longer where the configuration says.
        program: for ``torch-export`` and ``onnx``, the program of another run of the same base weights: its k values
            are replaced, with the same result bit for bit as a new export.

    Raises:
        ConfigError: an unknown target, ``out`` exists, or the program is of another base or form.
        ShpeftError: the model cannot be exported so, or the result has other logits; nothing is written then.
    """
    if target not in TARGETS:
        raise ConfigError(f"There is no export {target!r}. {did_you_mean(target, TARGETS)}")
    if program is not None and target not in PATCHES:
        raise ConfigError(f"Only programs are patched ({' and '.join(PATCHES)}), and {target} is none.")
    suffix, write = TARGETS[target]
    out = Path(f"{run.name}{suffix}") if out is None else out
    if out.exists():
        raise ConfigError(f"{out} exists. Choose another name with --out, or remove it.")
    staging = out.parent / f".export-{secrets.token_hex(4)}{suffix}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if program is None:
            difference = write(run, staging, weights)
        else:
            difference = _patched(run, staging, weights, target, program)
        staging.rename(out)
    except OSError as error:
        raise ShpeftError(f"{out} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True) if staging.is_dir() else staging.unlink(missing_ok=True)
    return Export(out, difference)


def _to_timm(run: RunFolder, path: Path, weights: str | None) -> float:
    """Write a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` opens, bit for bit."""
    with load_run(run, "cpu", weights) as loaded, loaded.backbone.frozen():
        save_timm(loaded.backbone, path)
        shutil.copy(run.path / "README.md", path / "README.md")
        try:
            plain = load_timm(path)
        except Exception as error:  # whatever timm raises: the folder would be of no use
            raise ShpeftError(
                f"timm cannot build {loaded.backbone.name} from its saved configuration ({error}). Export to "
                "torch-export, which needs no timm."
            ) from None
        difference = _largest_difference(loaded.backbone, lambda inputs: plain(inputs))
    if difference != 0:
        raise ShpeftError(
            f"timm builds {run.config.backbone.name} with other settings: its logits differ by up to {difference:.2g}. "
            "Export to torch-export, which needs no timm."
        )
    return difference


def _to_torch_export(run: RunFolder, path: Path, weights: str | None) -> float:
    """Write a program of ``torch.export`` for batches of any size, which needs PyTorch alone."""
    with load_run(run, "cpu", weights) as loaded, loaded.backbone.frozen():
        program = torch.export.export(
            loaded.backbone.module, (_batch(loaded.backbone, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, path, extra_files={METADATA: _description(loaded, undo_entries(loaded))})
        module = torch.export.load(path).module()
        return _checked(loaded.backbone, lambda inputs: module(inputs))


def _to_onnx(run: RunFolder, path: Path, weights: str | None) -> float:
    """Write an ONNX model for batches of any size, checked with ONNX Runtime."""
    _check_onnx()
    import onnx

    with load_run(run, "cpu", weights) as loaded, loaded.backbone.frozen():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own use of PyTorch
            program = torch.onnx.export(
                loaded.backbone.module,
                (_batch(loaded.backbone, 2),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        more = undo_entries(loaded) | {"tensors": names_in_onnx(model, loaded)}
        onnx.helper.set_model_props(model, {"shpeft": _description(loaded, more)})
        onnx.save(model, path)
        return _checked(loaded.backbone, onnx_program(path))


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ShpeftError(f"ONNX needs {' and '.join(missing)}. Install them with: pip install 'shpeft[onnx]'")


def _patched(run: RunFolder, path: Path, weights: str | None, target: str, program: Path) -> float:
    """Write a program with the run's values in place of its own, and check it as a new one."""
    if not program.is_file():
        raise ConfigError(f"There is no program {program}.")
    if target == "onnx":
        _check_onnx()
    with load_run(run, "cpu", weights) as loaded, loaded.backbone.frozen():
        return _checked(loaded.backbone, PATCHES[target](loaded, program, path))


def _to_peft(run: RunFolder, path: Path, weights: str | None) -> float:
    """Write an adapter that peft opens on the pretrained model, with the same logits bit for bit."""
    with load_run(run, "cpu", weights) as loaded, loaded.backbone.frozen():
        model = save_peft(loaded, path)
        difference = _largest_difference(loaded.backbone, lambda inputs: run_peft(model, inputs))
    if difference != 0:
        raise ShpeftError(
            f"peft opens the adapter with other logits: they differ by up to {difference:.2g}. Export to timm instead."
        )
    return difference


def _to_hub(run: RunFolder, path: Path, weights: str | None) -> None:
    """Write a folder to share: card, configuration, delta and reliability, without base weights and without cases."""
    state = run.state.read()
    if state.status != "finished":
        raise RunError(f"The run {run.name} is {state.status}, and only finished runs can be exported.")
    path.mkdir()
    for name in SHARED_FILES:
        if (run.path / name).exists():
            shutil.copy(run.path / name, path / name)
    (path / "config.yaml").write_text(run.config.portable().to_yaml(), encoding="utf-8")
    public = {key: getattr(state, key) for key in ("status", "message", "started", "updated")}
    (path / "state.json").write_text(json.dumps(public, indent=1), encoding="utf-8")


TARGETS: dict[str, tuple[str, Callable[[RunFolder, Path, str | None], float | None]]] = {
    "timm": ("-timm", _to_timm),
    "torch-export": (".pt2", _to_torch_export),
    "onnx": (".onnx", _to_onnx),
    "peft": ("-peft", _to_peft),
    "hub": ("-hub", _to_hub),
}
"""By target: how the written file or folder ends, and the function that writes it."""


PATCHES: dict[str, Callable[[LoadedRun, Path, Path], Callable[[Tensor], Tensor]]] = {
    "torch-export": lambda loaded, program, path: patch_torch_export(
        loaded, program, path, lambda more: _description(loaded, more)
    ),
    "onnx": lambda loaded, program, path: patch_onnx(loaded, program, path, lambda more: _description(loaded, more)),
}
"""By target: writes a program with a run's values in place of its own, and returns what runs it."""


def _description(loaded: LoadedRun, more: dict[str, Any]) -> str:
    """Return what a program needs beside its weights, as JSON: classes, input transform, calibration, and more."""
    parts = {} if loaded.reliability is None else loaded.reliability.parts
    temperatures = {name: part.calibration.temperature for name, part in parts.items()}
    task, interval = loaded.backbone.task, loaded.reliability
    single = task == SINGLE_LABEL
    description: dict[str, Any] = {
        "classes": list(loaded.backbone.classes),
        "transform": loaded.backbone.transform.to_dict(),
        **({} if isinstance(task, Regression) else {"temperature": temperatures.get("") if single else temperatures}),
        **({"half_width": interval.half_width} if isinstance(interval, IntervalReliability) else {}),
        **({} if single else {"task": loaded.backbone.task.to_dict()}),
        "shpeft": __version__,
        "notice": NOTICE,
        **more,
    }
    return json.dumps(description, indent=1, ensure_ascii=False)


def _batch(backbone: Backbone, size: int) -> Tensor:
    """Return normalized inputs (B, 3, H, W) of random pixels, always the same."""
    generator = torch.Generator().manual_seed(size)
    pixels = torch.randint(0, 256, (size, 3, *backbone.transform.shape), generator=generator)
    return backbone.transform.normalize(pixels)


@torch.no_grad()
def _largest_difference(backbone: Backbone, other: Callable[[Tensor], Tensor]) -> float:
    """Return the largest absolute difference of the logits of two models, over batches of several sizes."""
    batches = [_batch(backbone, size) for size in BATCHES]
    return max((other(inputs) - backbone(inputs)).abs().max().item() for inputs in batches)


@torch.no_grad()
def _checked(backbone: Backbone, other: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference of a translated program.

    Raises:
        ShpeftError: it exceeds :data:`TOLERANCE`.
    """
    difference = _largest_difference(backbone, other)
    largest = max(backbone(_batch(backbone, size)).abs().max().item() for size in BATCHES)
    if not difference <= TOLERANCE * largest:
        raise ShpeftError(
            f"The exported program of {backbone.name} has other logits: they differ by up to {difference:.2g}, with "
            f"logits up to {largest:.2g}. Export to timm instead."
        )
    return difference

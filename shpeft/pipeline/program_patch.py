"""One exported program, many deltas: write another run's k values into a program of the same base weights."""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from shpeft.errors import ConfigError
from shpeft.pipeline.loaded_run import LoadedRun

Describe = Callable[[dict[str, Any]], str]
"""Returns the description that is stored in a program, with more entries."""

METADATA = "shpeft.json"
"""Where a program of ``torch.export`` has its description; ONNX has it as the property ``shpeft``."""


def undo_entries(loaded: LoadedRun) -> dict[str, Any]:
    """Return what turns a run's program back into that of the pretrained weights, for its description."""
    indices = loaded.delta.support.indices
    with loaded.pretrained() as backbone:
        entries = {name: backbone.parameters[name].detach().view(-1)[index] for name, index in indices.items()}
    tensors = {f"{name}:at": index for name, index in indices.items()}
    stored = safetensors.torch.save(tensors | {f"{name}:base": values for name, values in entries.items()})
    return {"base": loaded.delta.base, "undo": base64.b64encode(stored).decode()}


def names_in_onnx(model: Any, loaded: LoadedRun) -> dict[str, tuple[str, bool]]:
    """Return for each parameter the name of its tensor in an ONNX model, and whether that is transposed.

    The exporter renames and transposes matrices; tensors are recognized by their content. A parameter that it merged
    with others is left out, and a run that changes it cannot be patched in.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = {}
    for name in _changed(loaded):
        values = loaded.backbone.parameters[name].detach().numpy()
        for candidate, array in tensors.items():
            if array.shape == values.shape and np.array_equal(array, values):
                names[name] = (candidate, False)
                break
            if array.shape == values.T.shape and np.array_equal(array, values.T):
                names[name] = (candidate, True)
                break
    return names


def patch_torch_export(loaded: LoadedRun, program: Path, path: Path, describe: Describe) -> Callable[[Tensor], Tensor]:
    """Write a program with a run's values in place of its own; return what runs it.

    Raises:
        ConfigError: it has no description, or is of another base or form.
    """
    extra = {METADATA: ""}
    exported = torch.export.load(program, extra_files=extra)
    description = _description(program, extra[METADATA])
    _check(loaded, program, description)

    def write(name: str, index: Tensor | None, values: Tensor) -> None:
        own = exported.state_dict[name].data
        _check_shape(loaded, program, name, tuple(own.shape))
        own.copy_(values) if index is None else own.view(-1).index_copy_(0, index, values)

    _rewrite(loaded, description, write)
    torch.export.save(exported, path, extra_files={METADATA: describe(undo_entries(loaded))})
    module = torch.export.load(path).module()
    return lambda inputs: module(inputs)


def patch_onnx(loaded: LoadedRun, program: Path, path: Path, describe: Describe) -> Callable[[Tensor], Tensor]:
    """Write an ONNX model with a run's values in place of its own; return what runs it.

    Raises:
        ConfigError: it has no description, is of another base or form, or has no tensor for a parameter.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(program)
    description = _description(program, next((p.value for p in model.metadata_props if p.key == "shpeft"), ""))
    _check(loaded, program, description)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    names: Mapping[str, tuple[str, bool]] = description["tensors"]
    arrays: dict[str, np.ndarray] = {}

    def write(name: str, index: Tensor | None, values: Tensor) -> None:
        if name not in names:
            raise ConfigError(
                f"{program} was exported without a name for {name}, which this run changes. Export the run anew."
            )
        tensor, transposed = names[name]
        array = arrays.setdefault(tensor, numpy_helper.to_array(initializers[tensor]).copy())
        own = array.T if transposed else array
        _check_shape(loaded, program, name, own.shape)
        if index is None:
            own[...] = values.numpy()
        else:
            own[np.unravel_index(index.numpy(), own.shape)] = values.numpy()

    _rewrite(loaded, description, write)
    for name, array in arrays.items():
        initializers[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.helper.set_model_props(model, {"shpeft": describe(undo_entries(loaded) | {"tensors": names})})
    onnx.save(model, path)
    return onnx_program(path)


def onnx_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what runs an ONNX model: inputs (B, 3, H, W) to logits (B, C)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {"images": inputs.numpy()})[0])


def _rewrite(
    loaded: LoadedRun, description: Mapping[str, Any], write: Callable[[str, Tensor | None, Tensor], None]
) -> None:
    """Write the pretrained entries of the program's own run, then those of the other one, and its head."""
    undo = safetensors.torch.load(base64.b64decode(description["undo"]))
    for key, values in undo.items():
        if key.endswith(":base"):
            name = key.removesuffix(":base")
            write(name, undo[f"{name}:at"], values)
    parameters = loaded.backbone.parameters
    for name, index in loaded.delta.support.indices.items():
        write(name, index, parameters[name].detach().view(-1)[index])
    for name, values in loaded.backbone.head.named_parameters(prefix=loaded.backbone.head_name):
        write(name, None, values.detach())


def _changed(loaded: LoadedRun) -> list[str]:
    """Return the matrices of the blocks, whose weights any run may change, the run's own, and the head."""
    head = [name for name, _ in loaded.backbone.head.named_parameters(prefix=loaded.backbone.head_name)]
    matrices = [info.name for info in loaded.backbone.weight_infos("matrices")]
    return list(dict.fromkeys([*matrices, *loaded.delta.support.indices, *head]))


def _description(program: Path, text: str | bytes) -> dict[str, Any]:
    try:
        description = json.loads(text)
        if {"base", "undo", "transform"} <= description.keys():
            return dict(description)
    except (ValueError, AttributeError):
        pass
    raise ConfigError(
        f"{program} does not say what can be replaced in it. Export it again with this version of shpeft."
    )


def _check(loaded: LoadedRun, program: Path, description: Mapping[str, Any]) -> None:
    own, given = loaded.delta.base, str(description["base"])
    if own != given:
        raise ConfigError(
            f"{program} is of other base weights: it has {given[:12]}, and the run {own[:12]}. Export the run anew."
        )
    size, other = loaded.backbone.image_size, description["transform"]["size"]
    if size != other:
        raise ConfigError(f"{program} takes images of {other} px, and the run {size} px. Export the run anew.")


def _check_shape(loaded: LoadedRun, program: Path, name: str, shape: tuple[int, ...]) -> None:
    own = tuple(loaded.backbone.parameters[name].shape) if name in loaded.backbone.parameters else None
    own = own or tuple(dict(loaded.backbone.module.named_parameters())[name].shape)
    if shape != own:
        raise ConfigError(
            f"{name} has the shape {shape} in {program}, and {own} in the run, as the numbers of classes differ. "
            "Export the run anew."
        )

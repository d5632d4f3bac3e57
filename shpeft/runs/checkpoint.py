"""``checkpoint/last.safetensors``: the state of training after an epoch, and what must match for it to go on."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.config.schema import RunConfig
from shpeft.errors import RunError
from shpeft.runs.history import history_text, parse_history
from shpeft.runs.run_file import RunFile, check_format, safetensors_metadata
from shpeft.support.environment import environment

if TYPE_CHECKING:
    from torch import Tensor

    from shpeft.training.loop import Checkpoint

FORMAT = "shpeft.checkpoint/1"
FOLDER = "checkpoint"
"""A folder inside the run folder; it is deleted when the run is finished."""


@dataclass(frozen=True, eq=False)
class Resumption:
    """The state from which an unfinished run resumes.

    Attributes:
        checkpoint: the state of training.
        config: the configuration of the run that wrote it.
        score: the name of the score that selected the weights, for people.
        same_machine: whether library versions and the numbers of threads and processes match, which identical bits
            require.
    """

    checkpoint: "Checkpoint"
    config: RunConfig
    score: str
    same_machine: bool

    def __repr__(self) -> str:
        return f"Resumption(after epoch {self.checkpoint.history[-1].epoch}, {self.score!r})"


class CheckpointFile:
    """The checkpoint of a run."""

    def __init__(self, folder: Path, config: RunConfig, name: str = "last") -> None:
        self._file, self._config = RunFile(folder, f"{FOLDER}/{name}.safetensors"), config

    def of_budget(self, k: int) -> "CheckpointFile":
        """Return the checkpoint of training k weights, in a run that chooses its budget."""
        return CheckpointFile(self._file.folder, self._config, f"{k}_weights")

    @property
    def exists(self) -> bool:
        """Whether an epoch has been checkpointed, with any budget, and the run is not finished."""
        return any(self._file.path.parent.glob("*.safetensors"))

    def write(self, checkpoint: "Checkpoint", score: str, processes: int = 1) -> None:
        """Write the state of training.

        Args:
            checkpoint: the state.
            score: names the score that selected the weights.
            processes: the number of processes that train together.
        """
        self.write_bytes(checkpoint_bytes(checkpoint, self._config.portable(), score, processes))

    def write_bytes(self, data: bytes) -> None:
        """Write what ``read_bytes`` returned in another folder."""
        self._file.path.parent.mkdir(exist_ok=True)
        self._file.write(data)

    def read_bytes(self) -> bytes:
        """Return the file's content, unchecked; empty if no epoch was checkpointed."""
        return self._file.parse_if_exists(bytes) or b""

    def read(self, processes: int = 1) -> Resumption | None:
        """Return the state to resume from, or None if no epoch was checkpointed.

        Args:
            processes: the number of processes that train together now.

        Raises:
            RunError: the checkpoint is damaged, or belongs to another configuration.
        """
        resumption = self._file.parse_if_exists(lambda data: parse_checkpoint(data, processes))
        if resumption is not None and resumption.config.portable() != self._config.portable():
            raise RunError(
                f"The config.yaml of the run {self._file.folder.name} was changed after its last checkpoint, and "
                "training cannot go on under other settings. Put it back and resume again, or start a new run with it."
            )
        return resumption

    def delete(self) -> None:
        """Delete the checkpoint; without effect if there is none."""
        shutil.rmtree(self._file.path.parent, ignore_errors=True)


def checkpoint_bytes(checkpoint: "Checkpoint", config: RunConfig, score: str, processes: int = 1) -> bytes:
    """Return a checkpoint as safetensors: ``values head/* best/* moments/N/*``, and the rest in the metadata.

    ``mean/*`` and ``lr_scale`` are there where the checkpoint has them.
    """
    from safetensors.torch import save

    parts = {"": (checkpoint.values, checkpoint.head), "best/": (checkpoint.best_values, checkpoint.best_head)}
    if checkpoint.mean_values is not None and checkpoint.mean_head is not None:
        parts["mean/"] = (checkpoint.mean_values, checkpoint.mean_head)
    tensors = {f"moments/{at}/{key}": t for at, part in enumerate(checkpoint.moments) for key, t in part.items()}
    for prefix, (values, head) in parts.items():
        tensors |= {f"{prefix}values": values, f"{prefix}head/weight": head.weight, f"{prefix}head/bias": head.bias}
    if checkpoint.lr_scale is not None:
        tensors["lr_scale"] = checkpoint.lr_scale
    metadata = {
        "format": FORMAT,
        "base": checkpoint.base,
        "images": checkpoint.images,
        "history": history_text(checkpoint.history),
        "config": config.model_dump(mode="json"),
        "score": score,
        "machine": _machine(processes),
    }
    copies = {name: tensor.clone() for name, tensor in tensors.items()}  # safetensors refuses tensors that share memory
    return save(copies, metadata={"shpeft": json.dumps(metadata, sort_keys=True)})


def parse_checkpoint(data: bytes, processes: int = 1) -> Resumption:
    """Return the checkpoint that ``checkpoint_bytes`` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from shpeft.linear_probe import Head
    from shpeft.training.loop import Checkpoint

    metadata = safetensors_metadata(data)
    check_format(metadata, FORMAT)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None

    def values_and_head(prefix: str) -> "tuple[Tensor, Head]":
        return tensors[f"{prefix}values"], Head(tensors[f"{prefix}head/weight"], tensors[f"{prefix}head/bias"])

    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("moments/"):
            _, at, key = name.split("/")
            moments.setdefault(int(at), {})[key] = tensor
    checkpoint = Checkpoint(
        metadata["base"],
        tuple(metadata["images"]),
        *values_and_head(""),
        *values_and_head("best/"),
        tuple(moments[at] for at in range(len(moments))),
        tuple(parse_history(metadata["history"])),
        lr_scale=tensors.get("lr_scale"),
    )
    if "mean/values" in tensors:
        mean_values, mean_head = values_and_head("mean/")
        checkpoint = replace(checkpoint, mean_values=mean_values, mean_head=mean_head)
    config = RunConfig.parse(metadata["config"])
    return Resumption(checkpoint, config, metadata["score"], metadata["machine"] == _machine(processes))


def _machine(processes: int) -> dict[str, Any]:
    """Return what rounding depends on."""
    import torch

    machine, threads = environment(), torch.get_num_threads()
    known = {"system": machine["system"], "libraries": machine["libraries"], "threads": threads}
    return known if processes == 1 else known | {"processes": processes}

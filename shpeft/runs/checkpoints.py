"""Checkpoints in a run folder: training's standing as safetensors, with what it takes to know that it still fits."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shpeft.config import RunConfig
from shpeft.runs.formats import described, environment, parse_reports, reports_text

if TYPE_CHECKING:
    from torch import Tensor

    from shpeft.training import Checkpoint

FORMAT = "shpeft.checkpoint/1"
FILE = "last.safetensors"


@dataclass(frozen=True)
class Resumption:
    """What an unfinished run goes on from.

    Attributes:
        config: the configuration under which it was made.
        score: what its weights were chosen by, for people.
        alike: whether versions and the number of threads are those of then, as the same bits need it.
    """

    checkpoint: "Checkpoint"
    config: RunConfig
    score: str
    alike: bool


def checkpoint_bytes(checkpoint: "Checkpoint", config: RunConfig, score: str) -> bytes:
    """A checkpoint as safetensors: ``values head/* best/* moments/N/*``, and the rest in the metadata."""
    from safetensors.torch import save

    parts = {"": (checkpoint.values, checkpoint.head), "best/": (checkpoint.best_values, checkpoint.best_head)}
    tensors = {f"moments/{at}/{key}": t for at, part in enumerate(checkpoint.moments) for key, t in part.items()}
    for prefix, (values, head) in parts.items():
        tensors |= {f"{prefix}values": values, f"{prefix}head/weight": head.weight, f"{prefix}head/bias": head.bias}
    about = {
        "format": FORMAT,
        "base": checkpoint.base,
        "images": checkpoint.images,
        "history": reports_text(checkpoint.history),
        "config": config.model_dump(mode="json"),
        "score": score,
        "machine": _machine(),
    }
    copies = {name: tensor.clone() for name, tensor in tensors.items()}  # the best may be the present, and share memory
    return save(copies, metadata={"shpeft": json.dumps(about, sort_keys=True)})


def parse_checkpoint(data: bytes) -> Resumption:
    """The checkpoint that ``checkpoint_bytes`` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from shpeft.probe import Head
    from shpeft.training import Checkpoint

    about = described(data)
    if about["format"] != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT}")
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None

    def standing(prefix: str) -> "tuple[Tensor, Head]":
        return tensors[f"{prefix}values"], Head(tensors[f"{prefix}head/weight"], tensors[f"{prefix}head/bias"])

    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("moments/"):
            _, at, key = name.split("/")
            moments.setdefault(int(at), {})[key] = tensor
    checkpoint = Checkpoint(
        about["base"],
        tuple(about["images"]),
        *standing(""),
        *standing("best/"),
        tuple(moments[at] for at in range(len(moments))),
        tuple(parse_reports(about["history"])),
    )
    return Resumption(checkpoint, RunConfig.parse(about["config"]), about["score"], about["machine"] == _machine())


def _machine() -> dict[str, Any]:
    """What rounding depends on."""
    import torch

    found = environment()
    return {"system": found["system"], "libraries": found["libraries"], "threads": torch.get_num_threads()}

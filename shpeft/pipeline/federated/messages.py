"""What the coordinator and a site say to each other: a safetensors file in memory, never pickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from shpeft.errors import TrainingError
from shpeft.support.bounded_files import parse_json

FORMAT = "shpeft.federated/1"

REQUEST_BYTES = 2**30
"""The largest request that a site reads."""

OVERHEAD = 2**16
"""Bytes of a reply beside its tensors: names, shapes and facts."""


@dataclass(frozen=True, eq=False)
class Message:
    """A request of the coordinator, or the reply of a site.

    Attributes:
        kind: ``introduce``, ``score``, ``train`` or ``finish``, or ``refusal``.
        facts: values that JSON represents.
        tensors: on the CPU.

    Examples:
        >>> import torch
        >>> sent = Message("train", {"round": 1}, {"values": torch.zeros(3)}).to_bytes()
        >>> received = Message.from_bytes(sent, most=1_000)
        >>> received.kind, received.facts, received.tensors["values"].tolist()
        ('train', {'round': 1}, [0.0, 0.0, 0.0])
    """

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the message as it travels."""
        header = {"format": FORMAT, "kind": self.kind, "facts": dict(self.facts)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        data: bytes = safetensors.torch.save(tensors, {"shpeft": json.dumps(header, sort_keys=True)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes, most: int = REQUEST_BYTES) -> "Message":
        """Read a message; nothing in it is used before it is checked.

        Args:
            data: what arrived.
            most: bytes of the longest message that is read.

        Raises:
            TrainingError: it is too large, damaged, or of another version.
        """
        if len(data) > most:
            raise TrainingError(f"The message has {len(data):,} bytes, and at most {most:,} are expected.")
        try:
            length = int.from_bytes(data[:8], "little")
            described = parse_json(parse_json(data[8 : 8 + length])["__metadata__"]["shpeft"])
            kind, facts, written = described["kind"], described["facts"], described["format"]
            tensors = safetensors.torch.load(data)
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            raise TrainingError("The message is damaged, or it is none of shpeft's.") from None
        if written != FORMAT or not isinstance(kind, str) or not isinstance(facts, dict):
            raise TrainingError(f"The message has another format than {FORMAT}. Use the same version of shpeft.")
        return cls(kind, facts, tensors)

"""Messages are read within bounds, and never executed."""

import pickle

import pytest
import safetensors.torch
import torch

from shpeft.errors import TrainingError
from shpeft.pipeline.federated import Message


def test_a_message_arrives_as_it_was_sent() -> None:
    sent = Message("train", {"round": 3, "name": "Zürich"}, {"values": torch.arange(4.0)})
    received = Message.from_bytes(sent.to_bytes())
    assert (received.kind, received.facts) == (sent.kind, sent.facts)
    assert torch.equal(received.tensors["values"], sent.tensors["values"])
    assert Message.from_bytes(Message("finish").to_bytes()).tensors == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        pickle.dumps({"values": [1.0]}),
        safetensors.torch.save({"values": torch.zeros(2)}),
        safetensors.torch.save({"values": torch.zeros(2)}, {"shpeft": "[]"}),
        safetensors.torch.save({"values": torch.zeros(2)}, {"shpeft": '{"format": "x", "kind": "a", "facts": {}}'}),
        Message("train", {}, {"values": torch.zeros(50)}).to_bytes()[:-4],
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(TrainingError, match="message"):
        Message.from_bytes(data)


def test_a_message_that_is_too_large_is_not_read() -> None:
    data = Message("train", {}, {"values": torch.zeros(1000)}).to_bytes()
    with pytest.raises(TrainingError, match="at most 1,000"):
        Message.from_bytes(data, most=1000)

"""A request that lacks something, or has something else in its stead, is refused in a sentence."""

from typing import Any

import pytest
import torch

from shpeft.config.federation import Federation
from shpeft.errors import TrainingError
from shpeft.pipeline.federated import Message, Site
from shpeft.pipeline.federated.requests import FACTS, check_request
from tests.federated.conftest import CONFIG

WHOLE: dict[str, Message] = {
    "introduce": Message(
        "introduce",
        {
            "settings": {"selection": {}, "training": {}, "seed": 0},
            "classes": ["a", "b"],
            "base": "0" * 64,
            "transform": {},
            "federation": Federation().model_dump(),
        },
    ),
    "score": Message("score"),
    "train": Message(
        "train", {"round": 0, "score": "any"}, {"values": torch.zeros(2), "support/a": torch.tensor([0, 1])}
    ),
    "finish": Message("finish", {"score": "any"}, {"values": torch.zeros(2), "support/a": torch.tensor([0, 1])}),
}


def without(message: Message, name: str) -> Message:
    facts = {key: value for key, value in message.facts.items() if key != name}
    return Message(message.kind, facts, {key: tensor for key, tensor in message.tensors.items() if key != name})


LACKING = [(kind, name) for kind, whole in WHOLE.items() for name in (*whole.facts, *whole.tensors)]
LACKING.remove(("train", "support/a"))
LACKING.remove(("finish", "support/a"))


def test_every_kind_of_request_is_checked() -> None:
    assert WHOLE.keys() == FACTS.keys()
    for kind, whole in WHOLE.items():
        assert isinstance(check_request(whole), FACTS[kind])
    assert len(LACKING) == 10


@pytest.mark.parametrize(("kind", "name"), LACKING)
def test_a_request_that_lacks_something_is_refused_by_the_site(kind: str, name: str) -> None:
    site = Site(CONFIG, report=(lines := list[str]()).append)
    reply = Message.from_bytes(site.answer(without(WHOLE[kind], name).to_bytes()))
    assert (reply.kind, reply.facts) == ("refusal", {"error": "TrainingError"})
    assert len(lines) == 1
    assert lines[0].startswith(f"The coordinator's request '{kind}' cannot be used: {name} (")
    assert lines[0].endswith("Use the same version of shpeft on both computers.")


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        ("train", {"round": -1}, r"round \(input should be greater than or equal to 0\)"),
        ("train", {"round": "first"}, r"round \(input should be a valid integer"),
        ("score", {"more": 1}, r"more \(extra inputs are not permitted\)"),
        ("introduce", {"settings": {"seed": 0}}, r"settings\.selection \(field required\), settings\.training"),
        ("introduce", {"federation": {"noise": -1.0}}, r"federation\.noise \(input should be greater than or equal"),
        ("introduce", {"federation": {"clip": 0.0}}, r"federation\.clip"),
        ("introduce", {"classes": 3}, "classes"),
    ],
)
def test_a_request_with_something_else_is_refused(kind: str, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        check_request(Message(kind, {**WHOLE[kind].facts, **facts}, WHOLE[kind].tensors))


def test_an_unknown_request_is_refused() -> None:
    with pytest.raises(TrainingError, match="asks for 'run', which this version does not know"):
        check_request(Message("run"))

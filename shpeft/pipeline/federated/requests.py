"""What each request of the coordinator has to say, checked as a whole before a site does anything."""

from typing import Any

from pydantic import Field, ValidationError

from shpeft.config.documents import Section
from shpeft.config.federation import Federation
from shpeft.errors import TrainingError
from shpeft.pipeline.federated.messages import Message

VALUES, SUPPORT, LR_SCALE = "values", "support/", "lr_scale"
"""The names of the tensors that say what to train from, which weights, and how fast."""


class Settings(Section):
    """What the coordinator decides of a run. Images, backbone, decision rules and device are each site's own."""

    selection: dict[str, Any]
    training: dict[str, Any]
    seed: int


class Introduction(Section):
    """The facts of ``introduce``."""

    settings: Settings
    classes: tuple[str, ...]
    base: str
    transform: dict[str, Any]
    federation: Federation


class Scoring(Section):
    """The facts of ``score``: none."""


class Training(Section):
    """The facts of ``train``; ``score`` names the one that selected the weights, and comes with them."""

    round: int = Field(ge=0)
    score: str | None = None


class Result(Section):
    """The facts of ``finish``."""

    score: str | None = None


FACTS: dict[str, type[Section]] = {
    "introduce": Introduction,
    "score": Scoring,
    "train": Training,
    "finish": Result,
}

TENSORS: dict[str, tuple[str, ...]] = {"train": (VALUES,), "finish": (VALUES,)}
"""Tensors that a request has in any case. A shared head is asked for where it is used."""


def check_request(request: Message) -> Section:
    """Return the facts of a request.

    Raises:
        TrainingError: its kind is unknown, or a fact or a tensor is missing, unknown, or of another type.

    Examples:
        >>> import torch
        >>> check_request(Message("train", {"round": 2}, {"values": torch.zeros(3)}))
        Training(round=2, score=None)
    """
    if request.kind not in FACTS:
        raise TrainingError(f"The coordinator asks for {request.kind!r}, which this version does not know.")
    try:
        facts = FACTS[request.kind].model_validate(dict(request.facts))
        problems = list[str]()
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, row['loc']))} ({row['msg'].lower()})" for row in error.errors()]
    problems += [f"{name} (tensor required)" for name in TENSORS.get(request.kind, ()) if name not in request.tensors]
    if any(name.startswith(SUPPORT) for name in request.tensors) and request.facts.get("score") is None:
        problems.append("score (required with the selected weights)")
    if problems:
        raise TrainingError(
            f"The coordinator's request {request.kind!r} cannot be used: {', '.join(problems)}. Use the same version "
            "of shpeft on both computers."
        )
    return facts

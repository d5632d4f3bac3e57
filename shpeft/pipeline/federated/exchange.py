"""Ask the sites, count the bytes, and name what cannot be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from shpeft.errors import ShpeftError, TrainingError
from shpeft.pipeline.federated.messages import Message
from shpeft.pipeline.federated.site import Site


class Sites(Protocol):
    """How the coordinator reaches the sites."""

    def present(self) -> tuple[str, ...]:
        """Return the names of the sites that can be asked now."""
        ...

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        """Send each site its request, and return the replies of those that answer in time."""
        ...


class LocalSites:
    """Sites in this process, one after the other: to try a federation before there is one.

    Args:
        sites: by name.
    """

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.sites = dict(sites)

    def present(self) -> tuple[str, ...]:
        """Return the names of all sites."""
        return tuple(self.sites)

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        """Let each site answer its request."""
        return {name: self.sites[name].answer(request) for name, request in requests.items()}


@dataclass
class Traffic:
    """What was exchanged with a site.

    Attributes:
        sent, received: bytes of the messages, without what the transport adds.
        rounds: in which its update was used.
    """

    sent: int = 0
    received: int = 0
    rounds: int = 0


@dataclass
class Exchange:
    """The coordinator's side of the conversation.

    Attributes:
        sites: how they are reached.
        traffic: by site.
        left_out: a row for each reply that was not used: the step, the site and the reason.
        report: called with a sentence about each of them.
    """

    sites: Sites
    report: Callable[[str], None]
    traffic: dict[str, Traffic] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, step: str, requests: Mapping[str, Message], most: int) -> dict[str, Message]:
        """Send requests, and return the replies that can be read.

        Args:
            step: for the reader, such as ``round 3``.
            requests: by site.
            most: bytes of the longest reply that is read.
        """
        sent = {name: request.to_bytes() for name, request in requests.items()}
        replies, read = self.sites.ask(sent), dict[str, Message]()
        for name, request in sent.items():
            traffic = self.traffic.setdefault(name, Traffic())
            traffic.sent += len(request)
            if name not in replies:
                self.leave_out(step, name, "it did not reply in time")
                continue
            traffic.received += len(replies[name])
            try:
                reply = Message.from_bytes(replies[name], most)
                if reply.kind != requests[name].kind:
                    raise TrainingError(_refusal(reply))
            except ShpeftError as error:
                self.leave_out(step, name, str(error))
                continue
            read[name] = reply
        return read

    def leave_out(self, step: str, site: str, reason: str) -> None:
        """Note that a site's reply is not used."""
        self.left_out.append({"step": step, "site": site, "reason": reason})
        self.report(f"{step}: {site} is left out: {reason}".rstrip(".") + ".")


def _refusal(reply: Message) -> str:
    """Return what a site says instead of what it was asked: the kind of its error, whose sentence stays there."""
    reason = reply.facts.get("error")
    return f"it refused ({reason}); its own output says why" if isinstance(reason, str) else "it answered another thing"

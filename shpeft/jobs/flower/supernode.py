"""A site's end: a Flower SuperNode that answers by installed code, and opens no port."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.errors import RunError
from shpeft.jobs.flower import prepare
from shpeft.jobs.flower.superlink import CONTENT, INTERVAL, RECORD
from shpeft.pipeline.federated.site import Site

LINGER = 15.0
"""Seconds that a site stays connected after its last reply: a SuperLink drops those of sites that have left."""

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def take_part(
    site: Site,
    address: str,
    *,
    root_certificate: Path,
    key: "EllipticCurvePrivateKey",
    patience: float,
    on_wait: Callable[[], None] = lambda: None,
) -> None:
    """Answer the coordinator until the result has arrived.

    Flower's own SuperNode runs code that its SuperLink sends. This one never asks for it: a request is data.

    Args:
        site: what answers.
        address: HOST:PORT of the coordinator.
        root_certificate: the certificate that signed the coordinator's.
        key: the private key of this site, whose public key the coordinator has.
        patience: seconds to try again where the coordinator cannot be reached.
        on_wait: called while there is nothing to do.

    Raises:
        MissingExtra: Flower is not installed.
        RunError: the coordinator cannot be reached, does not know the key, or has ended.
    """
    prepare()
    from flwr.supernode.fleet_http_connection import http_request_response

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    ends: list[Exception] = []
    try:
        with http_request_response(
            address, False, str(root_certificate), (key, key.public_key()), max_wait_time=patience
        ) as connection:
            try:
                _answer_all(site, connection, on_wait)
            except Exception as error:  # Flower logs what leaves this block, and no more
                ends.append(error)
    except SystemExit:
        raise RunError(
            f"The coordinator at {address} cannot be reached, or does not accept this site: its certificate, this "
            "site's key, or a clock that is minutes wrong."
        ) from None
    if ends:
        import httpx

        if isinstance(ends[0], httpx.HTTPError | OSError):
            raise RunError(f"The connection to the coordinator at {address} ended: {ends[0]}") from None
        raise ends[0]


def _answer_all(site: Site, connection: Any, on_wait: Callable[[], None]) -> None:
    """Answer one request after the other."""
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        iterate_object_tree,
        no_object_id_recompute,
    )
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects

    _, receive, send, _, _, pull, push, confirm = connection
    while not site.finished:
        received = receive()
        if received is None:
            on_wait()
            time.sleep(INTERVAL)
            continue
        request, tree = received
        run, identifier = request.metadata.run_id, request.metadata.message_id
        parts = pull_objects([part.object_id for part in iterate_object_tree(tree)], partial(pull, run))
        confirm(run, identifier)
        whole: Any = inflate_object_from_contents(identifier, parts)
        began = time.monotonic()
        answer = site.answer(whole.content[RECORD][CONTENT])
        reply = Message(RecordDict({RECORD: ConfigRecord({CONTENT: answer})}), reply_to=request)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            missing, session = send(reply, get_object_tree(reply), time.monotonic() - began)
            for part, content in get_all_nested_objects(reply).items():
                if part in missing:
                    push(run, session, part, content.deflate())
    time.sleep(LINGER)

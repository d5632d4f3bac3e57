"""The coordinator's end: a Flower SuperLink in this process, open to known sites alone."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shpeft.errors import RunError
from shpeft.jobs.flower import prepare

STARTING, CLOSING = 60.0, 10.0
"""Seconds that the server has to begin and to end."""

INTERVAL = 0.5
"""Seconds between two looks for replies; a site looks for requests as often."""

FLEET = "/v1/fleet/"
"""The part of a SuperLink that sites use. Nothing else of it is served: no code and no run comes from outside."""

RECORD, CONTENT = "shpeft", "message"
"""Where Flower's message holds ours."""


class SuperLink:
    """A SuperLink that knows its sites by their keys; use it in a ``with`` block.

    It is the ``Sites`` of a coordinator.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        certificate: Path,
        key: Path,
        host: str,
        port: int,
        patience: float,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; the ``with`` block serves.

        Args:
            keys: the public key of each site, as PEM.
            certificate, key: files of the TLS certificate and its private key.
            host, port: where sites connect.
            patience: seconds that sites have to connect, and for each reply.
            on_wait: called while the sites work; it cancels by raising ``Cancelled``.

        Raises:
            MissingExtra: Flower is not installed.
        """
        prepare()
        self._keys, self._patience, self._on_wait = dict(keys), patience, on_wait
        self._certificate, self._key, self._host, self._port = certificate, key, host, port

    def __enter__(self) -> "SuperLink":
        """Serve.

        Raises:
            RunError: the address is taken, or the certificate cannot be used.
        """
        import uvicorn
        from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
        from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
        from flwr.supercore.heartbeat import HeartbeatSender
        from flwr.supercore.task_identity import TaskIdentity
        from flwr.superlink.main import create_app

        logging.getLogger("flwr").setLevel(logging.CRITICAL)
        app = create_app()
        app.state.enable_supernode_auth = True  # sites cannot register themselves
        self._state: Any = app.state.linkstate_factory.state()
        self._nodes = {
            name: self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 0) for name, key in self._keys.items()
        }
        self._run = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        self._task = self._state.get_run_info(run_ids=[self._run])[0].primary_task_id
        self._state.claim_task(self._task)
        self._state.activate_task(self._task)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = self._run, self._task, 1
        config = uvicorn.Config(
            _fleet_alone(app),
            host=self._host,
            port=self._port,
            ssl_certfile=str(self._certificate),
            ssl_keyfile=str(self._key),
            log_level="error",
            access_log=False,
        )
        try:
            config.load()
        except OSError as error:  # of ssl, too
            raise RunError(
                f"The certificate {self._certificate} with the key {self._key} cannot be used: {error}."
            ) from None
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="superlink", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + STARTING
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RunError(
                    f"Nothing can be served at {self._host}:{self._port}: the address is taken, or it is not this "
                    "computer's. Choose another --host or --port."
                )
            time.sleep(0.05)
        self._heartbeat = HeartbeatSender(lambda: bool(self._state.acknowledge_task_heartbeat(self._task)))
        self._heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End the run, so that sites which still ask are told, and stop serving."""
        from flwr.common.constant import SubStatus

        self._heartbeat.stop()
        self._state.finish_task(self._task, SubStatus.FAILED if error[0] else SubStatus.COMPLETED, "")
        self._server.should_exit = True
        self._thread.join(CLOSING)

    def wait_for(self, count: int) -> None:
        """Wait until that many sites are connected, or patience ends."""
        deadline = time.monotonic() + self._patience
        while len(self.present()) < count and time.monotonic() < deadline:
            self._on_wait()
            time.sleep(INTERVAL)

    def present(self) -> tuple[str, ...]:
        """Return the names of the sites that are connected."""
        online = self._state.get_nodes(self._run)
        return tuple(name for name, node in self._nodes.items() if node in online)

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        """Send each site its request, and return the replies of those that answer in time."""
        waiting = {self._send(self._nodes[name], data): name for name, data in requests.items()}
        ready, replies = dict[str, str](), dict[str, bytes]()
        sent, deadline = set(waiting), time.monotonic() + self._patience
        while (waiting or ready) and time.monotonic() < deadline:
            for reply in self._state.get_message_res(message_ids=set(waiting), run_id=self._run):
                name = waiting.pop(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    continue
                ready[reply.metadata.message_id] = name
            for identifier in list(ready):
                content = self._content(identifier)
                if content is not None:
                    replies[ready.pop(identifier)] = content
            self._on_wait()
            time.sleep(INTERVAL)
        self._state.delete_messages(message_ins_ids=sent)
        return replies

    def _send(self, node: int, data: bytes) -> str:
        """Leave a request for a site, and return the request's number."""
        from flwr.app import ConfigRecord, Message, RecordDict
        from flwr.app.message import remove_content_from_message
        from flwr.supercore.inflatable.inflatable_object import (
            get_all_nested_objects,
            get_object_tree,
            no_object_id_recompute,
        )

        record = RecordDict({RECORD: ConfigRecord({CONTENT: data})})
        message = Message(record, node, "query", ttl=self._patience)
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            session = self._state.start_session(self._run)
            bare = remove_content_from_message(message)
            self._state.store_message_and_object_tree(bare, get_object_tree(message), session)
            for identifier, part in get_all_nested_objects(message).items():
                self._state.store_object(self._run, session, identifier, part.deflate())
        return str(message.metadata.message_id)

    def _content(self, identifier: str) -> bytes | None:
        """Return what a reply brings, once all of it has arrived."""
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
        from flwr.supercore.object_store import NoObjectInStoreError

        store = self._state.object_store
        try:
            tree = store.get_object_tree(identifier)
        except NoObjectInStoreError:
            return b""
        parts = {
            part.object_id: self._state.get_object(self._run, part.object_id) for part in iterate_object_tree(tree)
        }
        if any(content is None for content in parts.values()):  # the upload was given up
            return b""
        if not all(parts.values()):
            return None
        try:
            message: Any = inflate_object_from_contents(identifier, parts)
            content = message.content[RECORD][CONTENT]
        except (KeyError, TypeError, ValueError):  # none of ours
            content = b""
        store.delete(identifier)
        return content if isinstance(content, bytes) else b""

    def _serve(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # uvicorn ends so where it cannot bind; __enter__ says it
            return


def _fleet_alone(app: Any) -> Any:
    """Return an ASGI application that serves what sites need, and answers anything else with 404."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"].startswith(FLEET)):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return guarded

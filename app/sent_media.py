"""Which account may fetch a media file: one whose own pages were sent its address.

Streamlit has one store for the images and downloads of all sessions. Their addresses are hashes of their content, and
it serves them to whoever asks.
"""

from collections.abc import Hashable, Iterator

from google.protobuf.message import Message
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

MEDIA = "/media/"

FIELDS = ("favicon", "icon_image", "image", "url")
"""Fields of Streamlit's messages that hold addresses of its own; none holds a text of a visitor."""

MOST = 10_000
"""Addresses that are remembered for an account, the latest ones."""


class SentMedia:
    """The addresses of media files that the server sent to the pages of each account.

    Examples:
        >>> sent = SentMedia()
        >>> message = ForwardMsg()
        >>> message.delta.new_element.imgs.imgs.add().url = "/media/ab12.png"
        >>> sent.note("reader", message.SerializeToString())
        >>> sent.was_sent("reader", "/media/ab12.png"), sent.was_sent("other", "/media/ab12.png")
        (True, False)
    """

    def __init__(self) -> None:
        self._sent: dict[Hashable, dict[str, None]] = {}

    def note(self, account: Hashable, message: bytes) -> None:
        """Remember the addresses in a message to a page of an account."""
        if MEDIA.encode() not in message:
            return
        sent = self._sent.setdefault(account, {})
        for address in _addresses(ForwardMsg.FromString(message)):
            sent.pop(address, None)  # the latest is the last
            sent[address] = None
        for address in list(sent)[:-MOST]:
            del sent[address]

    def was_sent(self, account: Hashable, address: str) -> bool:
        """Return whether a page of the account was sent this address."""
        return address in self._sent.get(account, ())


def _addresses(message: Message) -> Iterator[str]:
    """Yield the addresses of media files in a message and its parts."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if isinstance(value, Message) else value:
                if isinstance(part, Message):  # else it is a key of a map
                    yield from _addresses(part)
        elif field.name in FIELDS and isinstance(value, str) and value.startswith(MEDIA):
            yield value

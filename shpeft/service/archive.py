"""An image archive that speaks DICOMweb: search (QIDO-RS), fetch (WADO-RS) and store (STOW-RS)."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from shpeft.errors import ConfigError, MissingExtra, ShpeftError

VARIABLE = "SHPEFT_ARCHIVE"
"""The environment variable with the address of the app's archive, which ``shpeft ui --archive`` sets."""

USER, PASSWORD, TOKEN = "SHPEFT_ARCHIVE_USER", "SHPEFT_ARCHIVE_PASSWORD", "SHPEFT_ARCHIVE_TOKEN"
"""Variables of the environment with the credentials. They are written nowhere."""

EXTRA = "An archive needs the package 'dicomweb-client'. Install it with: pip install 'shpeft[archive]'"

LOCAL = ("127.0.0.1", "localhost", "::1")

FIELDS = ("NumberOfSeriesRelatedInstances",)

PAGE = 100
"""Series of one page of a search."""

TIMEOUT = 60.0
"""Seconds to wait for an answer of the archive."""

SERIES_BYTES = 2**31
"""Most bytes of a series that is fetched."""


class ArchiveError(ShpeftError):
    """The archive cannot be reached, or refuses."""


@dataclass(frozen=True)
class ArchivedSeries:
    """A series as the archive lists it.

    Attributes:
        study, series: the UIDs.
        modality: its DICOM code.
        instances: how many the archive has by now; a series may still be arriving.
    """

    study: str
    series: str
    modality: str
    instances: int


class Archive:
    """A DICOMweb service.

    Args:
        url: of the service, such as ``http://127.0.0.1:8042/dicom-web``.

    Raises:
        ConfigError: the address is none, or would send credentials or images unencrypted to another computer.
        MissingExtra: dicomweb-client is not installed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of an archive. Give one such as http://127.0.0.1:8042/dicom-web.")
        if parts.username or parts.password:
            raise ConfigError(f"Credentials do not belong into the address: set {USER} and {PASSWORD}, or {TOKEN}.")
        if parts.scheme == "http" and parts.hostname not in LOCAL:
            raise ConfigError("Images leave this computer encrypted alone: give an https address of the archive.")
        try:
            from dicomweb_client import DICOMwebClient, session_utils
        except ImportError:
            raise MissingExtra(EXTRA) from None
        session = session_utils.create_session()
        user, password, token = (os.environ.get(name) for name in (USER, PASSWORD, TOKEN))
        if user and password:
            session = session_utils.create_session_from_user_pass(user, password)
        elif token:
            session.headers["Authorization"] = f"Bearer {token}"
        session.trust_env = False  # no proxy, and no credentials of other programs
        self.url = url
        self.client = DICOMwebClient(url, session=session, timeout=TIMEOUT)
        self.client.set_http_retry_params(retry=False)

    def series(self) -> Iterator[ArchivedSeries]:
        """Yield every series, a page at a time.

        Raises:
            ArchiveError: the archive cannot be reached, or its answer is no list of series.
        """
        offset = 0
        while True:
            listed = self._asked(partial(self.client.search_for_series, limit=PAGE, offset=offset, fields=FIELDS))
            for tags in listed:
                try:
                    yield ArchivedSeries(
                        _value(tags, "0020000D"),
                        _value(tags, "0020000E"),
                        _value(tags, "00080060"),
                        int(_value(tags, "00201209") or 0),
                    )
                except (KeyError, ValueError, TypeError):
                    raise ArchiveError("The archive's list of series cannot be read.") from None
            if len(listed) < PAGE:
                return
            offset += PAGE

    def fetch(self, series: ArchivedSeries) -> list[bytes]:
        """Return the files of a series.

        Raises:
            ArchiveError: the archive cannot be reached, or the series is larger than :data:`SERIES_BYTES`.
        """

        def files() -> list[bytes]:
            made, size = list[bytes](), 0
            for instance in self.client.iter_series(series.study, series.series):
                buffer = BytesIO()
                instance.save_as(buffer, enforce_file_format=True)
                size += buffer.tell()
                if size > SERIES_BYTES:
                    raise ArchiveError(f"The series has more than {SERIES_BYTES // 2**20} MiB, and is not read.")
                made.append(buffer.getvalue())
            return made

        fetched: list[bytes] = self._asked(files)
        return fetched

    def store(self, files: Sequence[bytes]) -> None:
        """Store files; what the archive already has stays as it is.

        Raises:
            ArchiveError: the archive cannot be reached, or does not store all of them.
        """
        from pydicom import dcmread

        answer = self._asked(lambda: self.client.store_instances([dcmread(BytesIO(file)) for file in files]))
        refused = len(answer.get("FailedSOPSequence") or ())
        if refused or len(answer.get("ReferencedSOPSequence") or ()) != len(files):
            raise ArchiveError(f"The archive refused {refused} of {len(files)} objects.")

    def _asked(self, question: Any) -> Any:
        """Return the archive's answer; errors become sentences that quote neither address nor UIDs."""
        import requests

        try:
            return question()
        except ShpeftError:
            raise
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else "an error"
            hint = f" Set {USER} and {PASSWORD}, or {TOKEN}." if code in (401, 403) else ""
            raise ArchiveError(f"The archive answers with status {code}.{hint}") from None
        except Exception as error:
            raise ArchiveError(
                f"The archive cannot be reached, or its answer not read ({type(error).__name__})."
            ) from None


def _value(tags: dict[str, Any], tag: str) -> str:
    """Return the first value of an attribute in DICOM JSON; empty if it has none."""
    values = tags.get(tag, {}).get("Value") or [""]
    return str(values[0])

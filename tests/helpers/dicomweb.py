"""A small archive that speaks as much DICOMweb as shpeft asks for, on this computer alone."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom

BOUNDARY = b"part"


class DicomWeb:
    """A running archive.

    Attributes:
        refusing: answers that it stores nothing.
        stored: how many times it was asked to store.
    """

    def __init__(self) -> None:
        self.instance_files: dict[str, bytes] = {}
        self.refusing, self.stored, self.lock, self.url = False, 0, Lock(), ""

    def add(self, data: bytes) -> None:
        """Put a file into the archive; what it already has stays as it is."""
        with self.lock:
            self.instance_files.setdefault(_tags(data).SOPInstanceUID, data)

    def files(self) -> list[bytes]:
        """Return every file."""
        with self.lock:
            return list(self.instance_files.values())

    def instances(self) -> list[dict[str, Any]]:
        """Return the tags of every instance."""
        return [{each.keyword: each.value for each in _tags(data) if each.VR != "SQ"} for data in self.files()]

    def series(self) -> list[dict[str, Any]]:
        """Return the series as a search lists them."""
        counts: dict[tuple[str, str, str], int] = {}
        for data in self.files():
            tags = _tags(data)
            key = (tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.Modality)
            counts[key] = counts.get(key, 0) + 1
        names = (("0020000D", "UI"), ("0020000E", "UI"), ("00080060", "CS"), ("00201209", "IS"))
        return [
            {tag: {"vr": vr, "Value": [value]} for (tag, vr), value in zip(names, (*key, count), strict=True)}
            for key, count in counts.items()
        ]


def _tags(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data), stop_before_pixels=True)


def _handler(archive: DicomWeb) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/dicom-web/series":
                query = parse_qs(parts.query)
                first, most = int(query["offset"][0]), int(query["limit"][0])
                self._answer(json.dumps(archive.series()[first : first + most]).encode(), "application/dicom+json")
                return
            asked = parts.path.split("/")[-1]
            files = [data for data in archive.files() if _tags(data).SeriesInstanceUID == asked]
            head = b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
            body = b"".join(head + data for data in files) + b"\r\n--" + BOUNDARY + b"--\r\n"
            self._answer(body, f'multipart/related; type="application/dicom"; boundary="{BOUNDARY.decode()}"')

        def do_POST(self) -> None:
            archive.stored += 1
            body = self._body()
            match = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
            assert match is not None
            parts = body.split(b"--" + match[1].encode())[1:-1]
            files = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts]
            if not archive.refusing:
                for data in files:
                    archive.add(data)
            references = [{"00081155": {"vr": "UI", "Value": [str(_tags(data).SOPInstanceUID)]}} for data in files]
            tag = "00081198" if archive.refusing else "00081199"
            self._answer(json.dumps({tag: {"vr": "SQ", "Value": references}}).encode(), "application/dicom+json")

        def _body(self) -> bytes:
            if length := self.headers["Content-Length"]:
                return self.rfile.read(int(length))
            parts = list[bytes]()  # the client sends more than a megabyte in chunks
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


@contextmanager
def running() -> Iterator[DicomWeb]:
    """Start an archive without any file."""
    archive = DicomWeb()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(archive))
    archive.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A real Orthanc with its DICOMweb plugin, on this computer alone."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "secret"


class Orthanc:
    """A running archive."""

    def __init__(self, port: int) -> None:
        self.rest, self.url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/dicom-web"

    def _open(self, path: str, data: bytes | None = None) -> bytes:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.rest, USER, PASSWORD)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
        )
        with opener.open(f"{self.rest}{path}", data, timeout=20) as response:
            return bytes(response.read())

    def add(self, data: bytes) -> None:
        """Put a file into the archive."""
        self._open("/instances", data)

    def instances(self) -> list[dict[str, Any]]:
        """Return the tags of every instance."""
        return [json.loads(self._open(f"/instances/{i}/simplified-tags")) for i in json.loads(self._open("/instances"))]

    def files(self) -> list[bytes]:
        """Return every file."""
        return [self._open(f"/instances/{i}/file") for i in json.loads(self._open("/instances"))]


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Start an archive with its files in a folder; skip the test where it is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc and its DICOMweb plugin (Debian's orthanc and orthanc-dicomweb) are not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = {
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        archive = Orthanc(port)
        for _ in range(200):
            try:
                archive._open("/system")
                break
            except OSError:
                assert process.poll() is None, (folder / "orthanc.log").read_text()
                time.sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(20)

"""A real SuperLink and SuperNodes on this computer, with TLS and keys."""

import datetime
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from shpeft.errors import ConfigError, MissingExtra
from shpeft.jobs import flower
from shpeft.jobs.flower.keys import read_private_key, read_public_key, read_public_keys
from shpeft.runs import RunFolder
from tests.helpers.command_line import shpeft as run_command

cryptography = pytest.importorskip("cryptography")
needs_flower = pytest.mark.skipif(
    find_spec("flwr") is None, reason="needs Flower, which is installed in an environment of its own"
)

LIMIT = 600
"""Seconds for what takes a minute."""

MODEL = ["--backbone", "test_vit", "--weights", "random", "--image-size", "32", "--device", "cpu"]


def write_key(path: Path) -> Path:
    """Write a pair of keys as ssh-keygen does; return the path of the public one."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return public


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of this computer that signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coordinator")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "coordinator.pem", folder / "coordinator.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def launch(folder: Path, name: str, *arguments: Any) -> "subprocess.Popen[str]":
    """Start a command; what it prints goes to a file of its name."""
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "shpeft", *map(str, arguments)],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=os.environ | {"FLWR_HOME": str(folder / "flwr"), "FLWR_TELEMETRY_ENABLED": "1"},
        )


def logs(folder: Path) -> str:
    return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(folder.glob("*.log")))


def wait_until(done: Callable[[], bool], folder: Path, what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < deadline, f"{what}\n{logs(folder)}"
        time.sleep(0.2)


def answer(port: int, path: str, certificate: Path) -> int:
    """Return the status of a POST request to the coordinator."""
    context = ssl.create_default_context(cafile=str(certificate))
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", data=b"")
    try:
        with urllib.request.urlopen(request, context=context, timeout=LIMIT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def listening(pid: int) -> bool:
    """Return whether a process has a TCP socket that listens, as /proc says."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    rows = [
        row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return any(row[3] == "0A" and row[9] in sockets for row in rows)


@needs_flower
@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="reads sockets in /proc")
def test_two_sites_train_with_a_coordinator(tmp_path: Path) -> None:
    """The stranger's key is not the coordinator's; the third site that is known never connects."""
    certificate, key = write_certificate(tmp_path)
    public = [write_key(tmp_path / name) for name in ("north", "south", "absent")]
    write_key(tmp_path / "stranger")
    port = free_port()
    address = f"127.0.0.1:{port}"
    source = ["--data", "phantom:fundus?n=36&size=32"]
    common = launch(
        tmp_path,
        "coordinator",
        *["coordinator", *public, "--certificate", certificate, "--key", key, "--port", port, "--patience", 10],
        *[*MODEL, *source, "--budget", 40, "--epochs", 2, "--score-images", 16, "--out", "common", "--json"],
    )

    def begin(name: str, root: Path = certificate, data: str = "phantom:fundus?n=45&size=32") -> Any:
        options = ["--root-certificate", root, "--key", tmp_path / name, "--patience", 0.05, "--out", f"run-{name}"]
        return launch(tmp_path, name, "site", address, *options, *MODEL, "--data", data)

    processes = [common]
    try:
        wait_until(lambda: "Waiting for sites" in logs(tmp_path) or common.poll() is not None, tmp_path, "no server")
        for path in ("/v1/control/list-runs", "/v1/runtime/get-nodes", "/docs", "/health"):
            assert answer(port, path, certificate) == 404, path
        assert answer(port, "/v1/fleet/register-node", certificate) >= 400
        stranger = begin("stranger")
        distrustful = begin("north", root=_other_certificate(tmp_path))
        processes += [stranger, distrustful]
        wait_until(lambda: stranger.poll() is not None and distrustful.poll() is not None, tmp_path, "a stranger stays")
        assert stranger.returncode
        assert "does not accept this site" in (tmp_path / "stranger.log").read_text()
        assert "does not accept this site" in (tmp_path / "north.log").read_text()
        sites = [begin("north"), begin("south", data="phantom:fundus?n=60&size=32")]
        processes += sites
        wait_until(
            lambda: "Taking part" in (tmp_path / "north.log").read_text() or common.poll() is not None,
            tmp_path,
            "nobody takes part",
        )
        assert common.poll() is None, logs(tmp_path)
        assert not any(listening(site.pid) for site in sites)
        wait_until(lambda: all(process.poll() is not None for process in processes), tmp_path, "it does not end")
        assert [process.returncode for process in (common, *sites)] == [0, 0, 0], logs(tmp_path)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    printed = (tmp_path / "coordinator.log").read_text()
    report = json.loads(printed[printed.index("\n{") :])["federated"]
    assert report["rounds"] == 2
    assert report["left_out"] == []
    assert {name: row["rounds"] for name, row in report["sites"].items()} == {"north": 2, "south": 2}
    deltas = [delta_values(RunFolder.open(tmp_path / name)) for name in ("common", "run-north", "run-south")]
    assert torch.equal(deltas[0], deltas[1])
    assert torch.equal(deltas[0], deltas[2])
    assert not (tmp_path / "flwr").exists(), "telemetry would leave a file, and an app its code"


def _other_certificate(folder: Path) -> Path:
    other = folder / "other"
    other.mkdir()
    return write_certificate(other)[0]


def delta_values(folder: RunFolder) -> torch.Tensor:
    from shpeft import pipeline

    assert folder.state.read().status == "finished"
    with pipeline.load_run(folder, "cpu") as loaded:
        return loaded.delta.values


def test_without_flower_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "find_spec", lambda name: None)
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    with pytest.raises(MissingExtra, match=r"environment of its own.*shpeft\[federated\]"):
        flower.prepare()
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"


def test_keys_are_elliptic_curves_in_files_of_their_own(tmp_path: Path) -> None:
    public = write_key(tmp_path / "north")
    assert read_public_key(public).startswith(b"-----BEGIN PUBLIC KEY")
    assert read_private_key(tmp_path / "north").key_size == 384
    assert list(read_public_keys((public,))) == ["north"]
    copy = tmp_path / "copy.pub"
    copy.write_bytes(public.read_bytes())
    for paths, said in ((((public, copy)), "same key"), ((public, public), "same name"), ((), "Name the public key")):
        with pytest.raises(ConfigError, match=said):
            read_public_keys(paths)
    for read in (read_public_key, read_private_key):
        with pytest.raises(ConfigError, match="ECDSA key"):
            read(write_certificate(tmp_path)[0])
        with pytest.raises(ConfigError, match="cannot be read"):
            read(tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lr", "0.1"], "The coordinator decides on training: leave out --lr."),
        (["--budget", "40"], "The coordinator decides on selection: leave out --budget."),
        (["--seed", "1"], "The coordinator decides on seed: leave out --seed."),
        ([], "cannot be read"),
    ],
)
def test_a_site_does_not_decide_how_to_train(arguments: list[str], said: str) -> None:
    process = run_command(
        *["site", "127.0.0.1:1", "--root-certificate", "no.pem", "--key", "no.key", *arguments], code=2
    )
    assert said in process.stderr


def test_the_coordinator_refuses_what_cannot_be_trained_across_sites() -> None:
    arguments = ["coordinator", "a.pub", "--certificate", "no.pem", "--key", "no.key"]
    process = run_command(*arguments, "--budget", "auto", code=2)
    assert "Sites cannot train together with budget auto." in process.stderr
    process = run_command(*arguments, code=2)
    assert "The file a.pub cannot be read" in process.stderr

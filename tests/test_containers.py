"""The container files: no rights, a read-only root, a health check, and commands that shpeft understands and serves."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from shpeft.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def filled_in(text: str) -> str:
    """Replace the variables of a compose file by their defaults, or by an example."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", lambda match: match[2] or "shpeft.example", text)


def command(service: str) -> list[str]:
    """Return the arguments of a service."""
    return [filled_in(argument) for argument in SERVICES[service]["command"]]


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_rights(service: str) -> None:
    settings = SERVICES[service]
    user, group = settings["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["healthcheck"]["test"][0] == "CMD"
    assert not settings.keys() & {"privileged", "cap_add", "devices", "pid", "ipc"}
    assert not any("docker.sock" in str(volume) for volume in settings.get("volumes", ()))
    for mount in settings.get("tmpfs", ()):
        assert "size=" in mount
        assert "nosuid" in mount


def test_only_the_proxy_and_the_archives_dicom_port_are_reached_from_outside() -> None:
    assert {name: settings["ports"] for name, settings in SERVICES.items() if "ports" in settings} == {
        "proxy": ["443:8443"],
        "orthanc": ["${DICOM_ADDRESS:-127.0.0.1}:4242:4242"],
    }
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert set(SERVICES["app"]["networks"]) == {"inside"}


def test_the_app_believes_the_proxys_own_address() -> None:
    assert f"--behind-proxy={SERVICES['proxy']['networks']['inside']['ipv4_address']}" in command("app")
    assert "--user-header=X-Forwarded-User" in command("app")
    assert {"--pass-user-headers=true", "--skip-auth-strip-headers=true", "--pass-host-header=true"} <= set(
        command("proxy")
    )


def test_secrets_are_files() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert not re.search(r"--(client|cookie)-secret=|PASSWORD|SECRET=", text)
    assert set(COMPOSE["secrets"]) == set(SERVICES["proxy"]["secrets"])


@pytest.mark.parametrize("service", ["app", "watch"])
def test_the_commands_parse(service: str) -> None:
    app.parse_args(command(service), print_error=False, exit_on_error=False)


def test_the_image_is_without_rights_and_copies_what_the_package_needs() -> None:
    users = [line.split()[1] for line in DOCKERFILE if line.startswith("USER ")]
    assert users == [SERVICES["app"]["user"]]
    assert any(line.startswith("HEALTHCHECK ") for line in DOCKERFILE)
    [entry] = [line for line in DOCKERFILE if line.startswith("ENTRYPOINT ")]
    assert yaml.safe_load(entry.removeprefix("ENTRYPOINT ")) == ["shpeft"]
    copies = [shlex.split(line)[1:-1] for line in DOCKERFILE if line.startswith("COPY ") and "--from" not in line]
    copied = {name for names in copies for name in names}
    listed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied == listed == {"shpeft", "app", "assets", "pyproject.toml", "README.md", "LICENSE"}
    extras = set(re.search(r"'/source\[([\w,]+)\]'", "\n".join(DOCKERFILE))[1].split(","))  # type: ignore[index]
    assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))


def free_port() -> int:
    """Return a port that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answer(port: int, **headers: str) -> int:
    """Return the status of the first page."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/", headers=names), timeout=10
        ) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code


def until_healthy(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the health check of the compose file passes."""
    check = [filled_in(part).replace("8501", str(port)) for part in SERVICES["app"]["healthcheck"]["test"][2:]]
    deadline = time.monotonic() + 60
    while subprocess.run([sys.executable, *check], capture_output=True).returncode:
        assert time.monotonic() < deadline, log.read_text()
        assert server.poll() is None, log.read_text()
        time.sleep(0.2)


def arguments(port: int, proxy: str) -> list[str]:
    """Return the app's command with another address of the proxy."""
    address = SERVICES["proxy"]["networks"]["inside"]["ipv4_address"]
    changed = [part.replace("0.0.0.0", "127.0.0.1").replace(address, proxy) for part in command("app")]
    return [sys.executable, "-m", "shpeft", *changed, "--port", str(port)]


def surroundings(folder: Path) -> dict[str, str]:
    """Return the environment of the container, with its folders in another one."""
    own = {"SHPEFT_RUNS": str(folder / "runs"), "SHPEFT_CACHE": str(folder / "cache"), "HOME": str(folder)}
    return os.environ | own | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def test_the_app_of_the_compose_file_runs_and_answers_its_health_check(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            arguments(port, "172.28.0.2"), cwd=tmp_path, env=surroundings(tmp_path), stdout=out, stderr=out
        )
    try:
        until_healthy(server, port, log)
        assert answer(port, Host="shpeft.example", X_Forwarded_User="reader") == 403  # not from the proxy
        assert "https://shpeft.example" in log.read_text()
    finally:
        server.terminate()
        server.wait(40)


READ_ONLY = """
mount --make-rprivate / && mount --bind / / && mount -o remount,ro,bind / || exit 9
mount -t tmpfs -o size=200m,nosuid,nodev,noexec tmpfs "$1" || exit 9
cd "$1" && ! touch /written 2>/dev/null || exit 9
shift && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def has_namespaces() -> bool:
    """Return whether this account may have a file system of its own."""
    tools = all(map(shutil.which, ("unshare", "setpriv", "mount")))
    return (
        tools
        and subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not has_namespaces(), reason="needs the right to mount")
def test_the_app_runs_on_a_read_only_root_without_rights(tmp_path: Path) -> None:
    port, log, folder = free_port(), tmp_path / "log", tmp_path / "tmpfs"
    folder.mkdir()
    inside = ["unshare", "-m", "bash", "-c", READ_ONLY, "bash", str(folder), *arguments(port, "127.0.0.1")]
    with log.open("wb") as out:
        server = subprocess.Popen(inside, env=surroundings(folder), stdout=out, stderr=out)
    try:
        until_healthy(server, port, log)
        assert answer(port, Host="shpeft.example", X_Forwarded_User="reader") == 200
        assert answer(port, Host="shpeft.example") == 403
    finally:
        server.terminate()
        server.wait(40)
    assert not any(folder.iterdir())  # what it wrote was in its own memory

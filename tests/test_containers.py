"""The container files: no rights, a read-only root, a health check, and commands that shpeft understands and serves."""

import os
import re
import shlex
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


def test_the_app_of_the_compose_file_runs_and_answers_its_health_check(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [argument.replace("0.0.0.0", "127.0.0.1") for argument in command("app")]
    environment = os.environ | {"SHPEFT_RUNS": str(tmp_path / "runs"), "SHPEFT_CACHE": str(tmp_path / "cache")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    check = [filled_in(part).replace("8501", str(port)) for part in SERVICES["app"]["healthcheck"]["test"][1:]]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "shpeft", *arguments, "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while (code := subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode) != 0:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        assert code == 0
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/", headers={"Host": "shpeft.example", "X-Forwarded-User": "reader"}
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):  # not from the proxy
            urllib.request.urlopen(request, timeout=10)
        assert "https://shpeft.example" in (tmp_path / "log").read_text()
    finally:
        server.terminate()
        server.wait(40)

"""``shpeft ui`` for other computers: with a login or behind a proxy, and refused in a sentence otherwise."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from shpeft.cli import app_server
from shpeft.cli.main import main
from shpeft.support import admission, allowed_folders
from shpeft.support.admission import Admission

SECRETS = """
[auth]
redirect_uri = "https://shpeft.example/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "shpeft"
client_secret = "secret"
server_metadata_url = "https://idp.example/.well-known/openid-configuration"
"""
PROXY = ("--behind-proxy", "10.0.0.2", "--user-header", "X-Forwarded-User", "--url", "https://shpeft.example")

Launch = Callable[..., list[str]]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A complete secrets file."""
    file = tmp_path / "secrets.toml"
    file.write_text(SECRETS)
    return file


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """Run ``shpeft ui`` up to the server's start; return the server's command."""
    commands: list[list[str]] = []
    monkeypatch.setattr(app_server, "start_app", commands.append)
    monkeypatch.setenv("SHPEFT_RUNS", str(tmp_path / "runs"))
    for name in (admission.VARIABLE, allowed_folders.VARIABLE, "FORWARDED_ALLOW_IPS", "SHPEFT_LOGIN"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)

    def run(*flags: object) -> list[str]:
        main(["ui", *map(str, flags)])
        return commands[-1]

    return run


def value_of(command: list[str], flag: str) -> list[str]:
    return [after for before, after in pairwise(command) if before == flag]


def test_behind_a_proxy(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = launch("--host", "0.0.0.0", *PROXY, "--admin", "0123456789abcdef", "--allow-folder", tmp_path / "data")
    assert value_of(command, "--server.address") == ["0.0.0.0"]
    assert value_of(command, "--server.allowedHosts") == ["shpeft.example"]
    assert value_of(command, "--server.enableXsrfProtection") == ["true"]
    assert admission.admission() == Admission(
        "proxy", "https://shpeft.example", "x-forwarded-user", ("10.0.0.2",), admins=("0123456789abcdef",)
    )
    assert allowed_folders.allowed_folders() == (tmp_path / "data", tmp_path / "runs")
    assert not allowed_folders.is_allowed(tmp_path / "runs" / ".accounts" / "audit.jsonl")
    assert allowed_folders.is_allowed(tmp_path / "runs" / "first")


def test_with_a_login(launch: Launch, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_LOGIN", str(secrets))
    command = launch("--host", "10.0.0.5", "--claim", "groups=readers", "--claim", "groups=physicists")
    assert value_of(command, "--secrets.files") == [str(secrets)]
    site = admission.admission()
    assert (site.kind, site.origin, site.claims) == (
        "login",
        "https://shpeft.example",
        {"groups": ("readers", "physicists")},
    )
    assert allowed_folders.allowed_folders() == (tmp_path / "runs",)  # no folder of the server unless it is named


def test_uvicorn_does_not_believe_where_a_request_says_it_comes_from(launch: Launch) -> None:
    from uvicorn import Config

    launch(*PROXY)
    assert Config("a:b").forwarded_allow_ips == ""


def test_on_this_computer_nothing_changes(launch: Launch) -> None:
    command = launch("--port", "9000")
    assert value_of(command, "--server.address") == ["127.0.0.1"]
    assert admission.admission().kind == "token"
    assert allowed_folders.allowed_folders() == ()


def test_tls_without_a_proxy(launch: Launch, secrets: Path, tmp_path: Path) -> None:
    command = launch("--login", secrets, "--certificate", tmp_path / "a.pem", "--key", tmp_path / "b.pem")
    assert value_of(command, "--server.sslCertFile") == [str(tmp_path / "a.pem")]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--host", "0.0.0.0"], "serves other computers with accounts only"),
        (["--host", "10.0.0.5", "--url", "https://a.example"], "serves other computers with accounts only"),
        (["--host", "myserver"], "is not an IP address"),
        (["--admin", "0123456789abcdef"], "are for an app with accounts"),
        (["--behind-proxy", "10.0.0.2"], "needs --user-header"),
        ([*PROXY[:4]], "needs --user-header"),
        (["--behind-proxy", "proxy", *PROXY[2:]], "neither an IP address nor a network"),
        (["--behind-proxy", "0.0.0.0/0", *PROXY[2:]], "is every address"),
        (["--behind-proxy", "::/0", *PROXY[2:]], "is every address"),
        ([*PROXY[:2], "--user-header", "X User:", *PROXY[4:]], "is not a header's name"),
        ([*PROXY[:4], "--url", "http://shpeft.example"], "must begin with https://"),
        ([*PROXY[:4], "--url", "https://shpeft.example/app"], "not served below a path"),
        ([*PROXY[:4], "--url", "https://a@shpeft.example"], "is not an address"),
        ([*PROXY[:4], "--url", "https://a.example; script-src *"], "is not an address"),
        ([*PROXY, "--claim", "hd=a"], "needs --login"),
        ([*PROXY, "--admin", "somebody"], "is not an account's id"),
        ([*PROXY, "--certificate", "a.pem"], "go together"),
        ([*PROXY, "--login", "secrets.toml"], "not both"),
        (["--login", "missing.toml"], "cannot be read as TOML"),
    ],
)
def test_anything_else_is_refused(
    launch: Launch, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        launch(*flags)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[auth]", "[other]", "has no section"),
        ("[auth]", "[auth", "cannot be read as TOML"),
        ('client_secret = "secret"', "", "lacks client_secret"),
        ("0123456789abcdef0123456789abcdef", "short", "fewer than 32 characters"),
        ("https://shpeft.example/", "http://shpeft.example/", "must begin with https://"),
        ("/oauth2callback", "/callback", "must be https://shpeft.example/oauth2callback"),
        ("https://idp.example", "http://idp.example", "must begin with https://"),
        ("https://idp.example", "https://accounts.google.com", "everybody can have an account"),
    ],
)
def test_secrets_that_would_not_hold_are_refused(
    launch: Launch, secrets: Path, old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.write_text(SECRETS.replace(old, new))
    with pytest.raises(SystemExit, match="2"):
        launch("--host", "0.0.0.0", "--login", secrets)
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "0123456789abcdef0123456789abcdef" not in printed
    assert not admission.admission().origin


def test_without_authlib_the_extra_is_named(
    launch: Launch, secrets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        launch("--login", secrets)
    assert "pip install 'shpeft[oidc]'" in capsys.readouterr().err

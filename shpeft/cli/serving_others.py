"""Check how the app is to serve other computers: by a login, or behind a reverse proxy that names people."""

import importlib.util
import ipaddress
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shpeft.errors import ConfigError, MissingExtra
from shpeft.support.admission import Admission

NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
"""What the section ``auth`` of a secrets file must hold."""

CALLBACK = "/oauth2callback"
SECRET_CHARACTERS = 32

PUBLIC = ("accounts.google.com", "login.microsoftonline.com/common/", "login.microsoftonline.com/consumers/")
"""Providers at which everybody has an account, or may have one."""

HOW = (
    "The app serves other computers with accounts only: log people in with --login SECRETS.toml (OpenID Connect), or "
    "name the reverse proxy that does, with --behind-proxy, --user-header and --url. Without accounts, leave --host "
    "out and use an SSH tunnel."
)


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is this computer's own.

    Raises:
        ConfigError: it is no address.

    Examples:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(
            f"--host {host} is not an IP address. Give that of a network card, 0.0.0.0 for all, or leave it out."
        ) from None


def by_login(secrets: Path, claims: Sequence[str] = (), admins: Sequence[str] = ()) -> Admission:
    """Return the settings of a login by OpenID Connect.

    Args:
        secrets: Streamlit's secrets file, with a section ``auth``.
        claims: what an identity must state, as ``NAME=VALUE``; several values of a name are alternatives.
        admins: opaque ids of accounts that may change everybody's runs.

    Raises:
        MissingExtra: Authlib is not installed.
        ConfigError: the file is missing, damaged or incomplete, or admits everybody.
    """
    if importlib.util.find_spec("authlib") is None:
        raise MissingExtra("A login needs Authlib, which is not installed. Install it with: pip install 'shpeft[oidc]'")
    auth = _section(secrets)
    if missing := [key for key in NEEDED if not isinstance(auth.get(key), str) or not auth[key]]:
        raise ConfigError(
            f"The section [auth] of {secrets} lacks {', '.join(missing)}. Add what your provider gave you."
        )
    if len(auth["cookie_secret"]) < SECRET_CHARACTERS:
        raise ConfigError(
            f"The cookie_secret of {secrets} has fewer than {SECRET_CHARACTERS} characters. Make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    origin, path = _origin(auth["redirect_uri"], f"The redirect_uri of {secrets}")
    if path != CALLBACK:
        raise ConfigError(f"The redirect_uri of {secrets} must be {origin}{CALLBACK}, and is {auth['redirect_uri']}.")
    _origin(auth["server_metadata_url"], f"The server_metadata_url of {secrets}")
    asked = _claims(claims)
    if not asked and any(name in auth["server_metadata_url"] for name in PUBLIC):
        raise ConfigError(
            "At this provider everybody can have an account, so everybody could use the app. Say who may, for instance "
            "with --claim hd=hospital.example or --claim email=NAME@hospital.example."
        )
    return Admission("login", origin, claims=asked, admins=_ids(admins))


def by_proxy(proxies: Sequence[str], header: str, url: str, admins: Sequence[str] = ()) -> Admission:
    """Return the settings of an app behind a reverse proxy that names the person in a header.

    Args:
        proxies: addresses and networks that the proxy's requests come from.
        header: the header's name.
        url: the address in people's browsers.
        admins: opaque ids of accounts that may change everybody's runs.

    Raises:
        ConfigError: something is missing, or not what it should be.

    Examples:
        >>> by_proxy(["10.0.0.2"], "X-Forwarded-User", "https://shpeft.example").header
        'x-forwarded-user'
    """
    if not header or not url:
        raise ConfigError(
            "--behind-proxy needs --user-header, the header in which the proxy names the person, and --url, the "
            "address in people's browsers."
        )
    for proxy in proxies:
        try:
            network = ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise ConfigError(
                f"--behind-proxy {proxy} is neither an IP address nor a network like 10.0.0.0/24."
            ) from None
        if not network.prefixlen:
            raise ConfigError(
                f"--behind-proxy {proxy} is every address, so anybody could be anybody. Name the proxy's."
            )
    if not re.fullmatch(r"[A-Za-z0-9-]+", header):
        raise ConfigError(f"--user-header {header!r} is not a header's name: use letters, digits and dashes.")
    origin, path = _origin(url, "--url")
    if path not in ("", "/"):
        raise ConfigError(f"--url must end after the host, as {origin}: the app is not served below a path.")
    return Admission("proxy", origin, header.lower(), tuple(proxies), admins=_ids(admins))


def _section(secrets: Path) -> dict[str, Any]:
    try:
        auth = tomllib.loads(secrets.read_text(encoding="utf-8")).get("auth")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):  # what is wrong may quote a secret
        raise ConfigError(
            f"The secrets file {secrets} cannot be read as TOML. Check its path and its content."
        ) from None
    if not isinstance(auth, dict):
        raise ConfigError(f"The secrets file {secrets} has no section [auth]. Add what your provider gave you.")
    return auth


def _origin(url: str, what: str) -> tuple[str, str]:
    """Return the origin and the path of an address that is encrypted, or stays on this computer."""
    try:
        parts = urlsplit(url)
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{what} is not an address: {url}. Write it as https://HOST.") from None
    if (
        not re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", name)
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        raise ConfigError(f"{what} is not an address: {url}. Write it as https://HOST.")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_this_computer(name)):
        raise ConfigError(f"{what} must begin with https://, or everybody on the way could read along: {url}.")
    return f"{parts.scheme}://{parts.netloc.lower()}", parts.path


def _is_this_computer(name: str) -> bool:
    try:
        return is_loopback(name)
    except ConfigError:
        return False


def _claims(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    claims: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--claim {text} is not of the form NAME=VALUE, such as hd=hospital.example.")
        claims[name] = (*claims.get(name, ()), value)
    return claims


def _ids(given: Sequence[str]) -> tuple[str, ...]:
    for text in given:
        if not re.fullmatch(r"[0-9a-f]{16}", text):
            raise ConfigError(
                f"--admin {text} is not an account's id: the app shows everybody their own, 16 hex digits."
            )
    return tuple(given)

"""Whom the app admits: this computer's browser with a token, people who log in, or those that a reverse proxy names."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

VARIABLE = "SHPEFT_ADMISSION"
"""How ``shpeft ui`` tells the app; unset, the app serves this computer alone."""

LOGIN_SECONDS = 12 * 3600
"""How long a login holds; the provider's own session decides whether the next one asks for a password."""

CLOCK_SECONDS = 300
"""How far the provider's clock may be ahead."""


@dataclass(frozen=True)
class Admission:
    """How the app's server knows who asks.

    Attributes:
        kind: ``token`` (this computer alone), ``login`` (OpenID Connect) or ``proxy`` (a header of a reverse proxy).
        origin: the address in people's browsers, as ``https://host:port``; empty with ``token``.
        header: the header in which the proxy names the person, in lower case.
        proxies: the proxy's addresses and networks.
        claims: what an identity must state, each with the values allowed; of a list, one has to be among them.
        admins: opaque ids of the accounts that may change everybody's runs.

    Examples:
        >>> site = Admission("proxy", "https://shpeft.example", "x-forwarded-user", ("10.0.0.0/24",))
        >>> site.host, site.is_proxy("10.0.0.7"), site.is_proxy("10.0.1.7")
        ('shpeft.example', True, False)
        >>> Admission.from_json(site.to_json()) == site
        True
    """

    kind: Literal["token", "login", "proxy"] = "token"
    origin: str = ""
    header: str = ""
    proxies: tuple[str, ...] = ()
    claims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    admins: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host in people's browsers, with its port unless that is the scheme's own."""
        return urlsplit(self.origin).netloc.lower()

    @property
    def name(self) -> str:
        """The host without its port."""
        return urlsplit(self.origin).hostname or ""

    def is_proxy(self, address: str) -> bool:
        """Return whether an address is one of the proxy's."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(peer, "ipv4_mapped", None) or peer
        return any(mapped in ipaddress.ip_network(proxy, strict=False) for proxy in self.proxies)

    def refusal(self, identity: Mapping[str, Any], now: float) -> str | None:
        """Return why a verified identity of a login is not admitted, or None.

        Args:
            identity: the claims of the provider.
            now: seconds since 1970.

        Examples:
            >>> site = Admission("login", "https://shpeft.example", claims={"groups": ("radiology",)})
            >>> print(site.refusal({"iss": "a", "sub": "b", "iat": 100, "groups": ["radiology", "it"]}, 200))
            None
            >>> site.refusal({"iss": "a", "sub": "b", "iat": 100}, 200)
            'This account lacks what the app asks for (groups). Ask those who run it for access.'
        """
        if not identity.get("iss") or not identity.get("sub"):
            return "The login does not say who logged in. Ask those who run the app to check the provider."
        issued = identity.get("iat")
        if not isinstance(issued, int | float) or not -CLOCK_SECONDS <= now - issued <= LOGIN_SECONDS:
            return f"The login is older than {LOGIN_SECONDS // 3600} hours. Log in again."
        for name, allowed in self.claims.items():
            stated = identity.get(name)
            values = stated if isinstance(stated, list | tuple) else [stated]
            if not {str(value) for value in values if value is not None} & set(allowed):
                return f"This account lacks what the app asks for ({name}). Ask those who run it for access."
            if name == "email" and identity.get("email_verified") is not True:
                return "The provider has not verified this account's address (email). Ask those who run the app."
        return None

    def to_json(self) -> str:
        """Return the settings as one line."""
        from pydantic import TypeAdapter

        return TypeAdapter(Admission).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "Admission":
        """Return the settings that ``to_json`` wrote.

        Raises:
            ValueError: they are damaged.
        """
        from pydantic import TypeAdapter

        settings: Admission = TypeAdapter(Admission).validate_json(text)
        return settings


def admission() -> Admission:
    """Return whom this process's app admits.

    Raises:
        ValueError: the variable is damaged.
    """
    text = os.environ.get(VARIABLE, "")
    return Admission.from_json(text) if text else Admission()

"""Who logged in: the identity in Streamlit's signed cookie, for requests that no page handles."""

import json
import time
from collections.abc import Mapping
from typing import Any

from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

from shpeft.support.admission import Admission

COOKIE = "_streamlit_user"
"""The cookie of ``st.login``: claims of the provider and the app's origin, signed with ``auth.cookie_secret``."""


def login_of(cookies: Mapping[str, str], site: Admission) -> tuple[str, str] | None:
    """Return issuer and subject of the cookies' login; None without one of this site that is admitted now."""
    identity = _identity(cookies)
    if identity.get("is_logged_in") is not True or identity.get("origin") != site.origin:
        return None
    return None if site.refusal(identity, time.time()) else (str(identity["iss"]), str(identity["sub"]))


def _identity(cookies: Mapping[str, str]) -> dict[str, Any]:
    """Return what the signed cookie states; empty if there is none, or its signature is wrong."""
    secret = get_cookie_secret()

    def part(name: str) -> bytes | None:
        value = cookies.get(name)
        return None if value is None else decode_signed_value(secret, name, value.encode("latin-1", "replace"))

    try:
        identity = json.loads(get_cookie_with_chunks(part, COOKIE) or b"{}")
    except (ValueError, TypeError):
        return {}
    return identity if isinstance(identity, dict) else {}

"""Refuse to start without the app's own Streamlit configuration and access control."""

import streamlit as st

from app.access import Access
from shpeft.support.admission import admission
from shpeft.support.markdown import code

SAFE = {
    "server.address": ("127.0.0.1", "localhost", "::1"),
    "server.allowedHosts": (["127.0.0.1", "localhost", "::1"],),
    "server.enableCORS": (True,),
    "server.enableXsrfProtection": (True,),
    "browser.gatherUsageStats": (False,),
    "runner.postScriptGC": (False,),
    "server.fileWatcherType": ("none",),
    "client.showErrorDetails": ("none",),
}
"""Required settings with their allowed values. Streamlit fails open: without its file it listens on every address."""


def require_access_control() -> None:
    """Stop the page if a server shows it without ``app/main.py``, and so to everybody."""
    if st.context.headers and not Access.in_force:
        st.error(
            "shpeft does not start because this server admits everybody. Start it with `shpeft ui` or `streamlit run "
            "app/main.py`."
        )
        st.stop()


def require_safe_settings() -> None:
    """Stop the page, with an explanation, if a required setting has another value."""
    required: dict[str, tuple[object, ...]] = dict(SAFE)
    if (site := admission()).kind != "token":
        del required["server.address"]  # `shpeft ui` checks it, and Access every request
        required["server.allowedHosts"] = ([site.name],)
    wrong = [key for key, allowed in required.items() if _option(key) not in allowed]
    if wrong:
        st.error(
            "shpeft does not start because its settings are not in force: "
            + ", ".join(f"{code(key)} is {code(st.get_option(key))}" for key in wrong)
            + ". Restore the file `app/.streamlit/config.toml`, remove conflicting `STREAMLIT_…` environment "
            "variables, and start the app with `shpeft ui` or `streamlit run app/main.py`."
        )
        st.stop()


def _option(key: str) -> object:
    """Return a setting; several values given as flags are a tuple, and a list in a file."""
    value: object = st.get_option(key)
    return list(value) if isinstance(value, tuple) else value

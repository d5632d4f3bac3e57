"""The app: ``streamlit run app/main.py``. The server, who may use it, and the script of its pages."""

import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)  # Streamlit adds this script's folder, not its parent, which holds the package app

from app import slices
from app.access import Access
from app.widgets import session
from shpeft.support.admission import admission

SITE = admission()
"""Whom the app admits, as ``shpeft ui`` was told."""

TOKEN = os.environ.pop("SHPEFT_TOKEN", "") or secrets.token_urlsafe(24)
"""What the address has to carry on this computer; children of this process do not inherit it."""


@asynccontextmanager
async def announce(_: st.App) -> AsyncIterator[None]:
    """Print the address, on this computer with its token, once the server listens."""
    address = f"http://{st.get_option('browser.serverAddress')}:{st.get_option('server.port')}/?token={TOKEN}"
    where = "On this computer only."
    if SITE.kind != "token":
        listens = f"{st.get_option('server.address')}, port {st.get_option('server.port')}"
        address, where = SITE.origin, f"With accounts; listens on {listens}."
    print(f"\n  shpeft: {address}\n  {where} Stop it with Control-C.\n", flush=True)
    session.libraries()  # while the browser opens
    yield


access = Middleware(Access, token=TOKEN if SITE.kind == "token" else None, site=SITE)
app = st.App(Path(__file__).with_name("pages.py"), routes=[slices.ROUTE], middleware=[access], lifespan=announce)

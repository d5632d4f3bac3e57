"""Who uses this session: nobody in particular on one's own computer, else an account with an opaque id."""

import time
from pathlib import Path

import streamlit as st

from app.widgets import layout
from shpeft.errors import ShpeftError
from shpeft.runs.accounts import account_id
from shpeft.runs.owner import Account, check_may_change, may_change, owner_of
from shpeft.runs.uploads import check_may_see
from shpeft.support.admission import Admission, admission
from shpeft.support.markdown import plain

NOT_YOURS = "This belongs to another account, or to nobody: you can use it, not change it."


def current() -> Account | None:
    """Return the account of this session; None where the app serves this computer alone.

    The page ends here for somebody who is not admitted.
    """
    site = admission()
    if site.kind == "token":
        return None
    issuer, subject = _logged_in(site) if site.kind == "login" else _named(site)
    opaque = account_id(issuer, subject)
    return Account(opaque, opaque in site.admins)


def require() -> None:
    """End the page, with the way to log in, for somebody who is not admitted."""
    try:
        account = current()
    except ShpeftError as error:
        layout.show_error(error)
        st.stop()
    if account is not None and st.session_state.setdefault("account", account.id) != account.id:
        st.session_state.clear()  # somebody else logged in at the proxy while this tab was open
        st.session_state["account"] = account.id


def check(folder: Path, what: str) -> None:
    """Check that this session may change a run or a batch.

    Raises:
        RunError: it may not.
    """
    check_may_change(folder, current(), what)


def may(folder: Path) -> bool:
    """Return whether this session may change a run or a batch."""
    return may_change(folder, current())


def may_administer() -> bool:
    """Return whether this session may change what all accounts share: an administrator, or anybody without accounts."""
    account = current()
    return account is None or account.is_admin


def check_images(source: str | Path) -> None:
    """Check that a dataset or a path is not what another account dropped on the pages.

    Raises:
        DatasetError: it is.
    """
    check_may_see(source, current())


def sees_list(folder: Path) -> bool:
    """Return whether this session sees a list of diagnoses: those of nobody and its own; administrators see all."""
    return owner_of(folder) is None or may(folder)


def sidebar() -> None:
    """Draw the account of this session and, where the app logs people in, the way out."""
    account = current()
    if account is None:
        return
    st.caption(f"Account {plain(account.id)}{', administrator' * account.is_admin}")
    if admission().kind == "login":
        st.button("Log out", on_click=st.logout, icon=":material/logout:", type="tertiary")


def _logged_in(site: Admission) -> tuple[str, str]:
    """Return the issuer and the subject of an admitted login; else draw the way to it and end the page."""
    identity = st.user.to_dict()
    if identity.get("is_logged_in") is not True:
        layout.notice()
        st.title("shpeft", anchor=False)
        st.write("Log in with your organization's account. The app learns an id of it, and shows others no name.")
        st.button("Log in", on_click=st.login, type="primary", icon=":material/login:")
        st.stop()
    if refusal := site.refusal(identity, time.time()):
        layout.notice()
        st.title("shpeft", anchor=False)
        st.error(plain(refusal))
        st.button("Log out", on_click=st.logout, icon=":material/logout:")
        st.stop()
    return str(identity["iss"]), str(identity["sub"])


def _named(site: Admission) -> tuple[str, str]:
    """Return the proxy and its name for the person; Access refuses requests without one."""
    name = (st.context.headers.get(site.header) or "").strip()
    if not name:
        st.error("The reverse proxy did not say who asks. Ask those who run the app.")
        st.stop()
    return f"proxy {site.origin}", name

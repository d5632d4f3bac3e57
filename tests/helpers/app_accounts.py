"""Use the app's pages without a browser under an account."""

import pytest

from shpeft.runs.accounts import account_id
from shpeft.runs.owner import Account
from shpeft.support import admission
from shpeft.support.admission import Admission

SITE = "https://shpeft.example"


class Be:
    """Decides who uses the app behind a proxy from now on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def __call__(self, name: str, admin: bool = False) -> Account:
        """Be somebody; return their account."""
        opaque = account_id(f"proxy {SITE}", name)
        site = Admission("proxy", SITE, "x-forwarded-user", ("10.0.0.2",), admins=(opaque,) * admin)
        self.patch.setenv(admission.VARIABLE, site.to_json())
        self.patch.setattr("app.widgets.account._named", lambda site: (f"proxy {site.origin}", name))
        self.patch.setattr("app.widgets.guard.require_safe_settings", lambda: None)
        return Account(opaque, admin)

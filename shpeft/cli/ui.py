"""``shpeft ui``: the app on this machine, or with accounts for others."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import app_server, options
from shpeft.cli.serving_others import HOW, by_login, by_proxy, is_loopback
from shpeft.errors import ConfigError
from shpeft.jobs.engines import VARIABLE, engine_named
from shpeft.runs import runs_root
from shpeft.service.archive import VARIABLE as ARCHIVE_VARIABLE
from shpeft.service.archive import Archive
from shpeft.support import admission, allowed_folders
from shpeft.support.isolation import isolate


def ui(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65535))] = 8501,
    allow_folder: list[Path] | None = None,
    host: str = "127.0.0.1",
    login: Annotated[Path | None, Parameter(env_var="SHPEFT_LOGIN")] = None,
    claim: list[str] | None = None,
    behind_proxy: list[str] | None = None,
    user_header: str = "",
    url: str = "",
    admin: list[str] | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    engine: options.Engine = "thread",
    archive: Annotated[str, Parameter(env_var=ARCHIVE_VARIABLE)] = "",
) -> None:
    """Start the app and print its address: on this machine only, unless people have accounts.

    Args:
        port: The port on this machine.
        allow_folder: A folder that the app may read images, weights and tables from, beside those dropped on its pages;
            repeatable. Without it, every folder that you may read; with accounts, none.
        host: The address to listen on. Another than this machine's own needs accounts.
        login: Log people in by OpenID Connect, with this secrets file of Streamlit.
        claim: What an identity must state to be admitted, as NAME=VALUE; repeatable.
        behind_proxy: Address or network of a reverse proxy that logs people in; repeatable. Other requests are refused.
        user_header: The header in which that proxy names the person.
        url: The address in people's browsers, with --behind-proxy.
        admin: Id of an account that may change everybody's runs; repeatable.
        certificate: A TLS certificate (PEM), for an app without a proxy.
        key: Its key (PEM).
        archive: The address of a DICOMweb service that takes results, such as http://127.0.0.1:8042/dicom-web. Nothing
            is sent before somebody clicks. Credentials are as for shpeft watch.
    """
    engine_named(engine)
    os.environ[VARIABLE] = engine
    if archive:
        Archive(archive)  # refuses an address that is none, or would send results unencrypted
    os.environ[ARCHIVE_VARIABLE] = archive
    local = is_loopback(host)
    if login is not None and behind_proxy:
        raise ConfigError("Give --login or --behind-proxy, not both: either the app logs people in, or the proxy.")
    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key go together: give both, or neither.")
    if login is not None:
        site = by_login(login, claim or (), admin or ())
    elif behind_proxy:
        site = by_proxy(behind_proxy, user_header, url, admin or ())
    elif not local:
        raise ConfigError(HOW)
    else:
        site = admission.Admission()
    if site.kind == "token" and (claim or admin or user_header or url or certificate):
        raise ConfigError(
            "--claim, --admin, --user-header, --url and --certificate are for an app with accounts. " + HOW
        )
    if claim and site.kind != "login":
        raise ConfigError("--claim needs --login: behind a proxy, the proxy decides who may pass.")
    if allow_folder or site.kind != "token":
        folders = [str(folder.expanduser().resolve()) for folder in (*(allow_folder or ()), runs_root())]
        os.environ[allowed_folders.VARIABLE] = os.pathsep.join(folders)
    flags = ["--server.port", str(port)]
    if site.kind != "token":
        os.environ[admission.VARIABLE] = site.to_json()
        isolate()
        os.environ["FORWARDED_ALLOW_IPS"] = ""  # else a request's own headers could name the address it comes from
        flags += ["--server.address", host, "--server.allowedHosts", site.name, "--browser.serverAddress", site.name]
        flags += [] if login is None else ["--secrets.files", str(login.resolve())]
        if certificate is not None and key is not None:
            flags += ["--server.sslCertFile", str(certificate.resolve()), "--server.sslKeyFile", str(key.resolve())]
    else:
        os.environ.pop(admission.VARIABLE, None)
    main = app_server.app_file()
    app_server.start_app(
        [sys.executable, "-m", "streamlit", "run", str(main), *app_server.settings(main, flags), *flags]
    )

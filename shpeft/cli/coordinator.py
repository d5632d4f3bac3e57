"""``shpeft coordinator``: train one model across hospitals."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import options, output
from shpeft.cli.interrupts import Interrupts
from shpeft.config.federation import Federation
from shpeft.runs import RunFolder, new_run

Sharing = Annotated[Federation, Parameter("*", group="Sites")]


def coordinator(
    *keys: Path,
    certificate: Path,
    key: Path,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=1, lte=65535))] = 8700,
    patience: Annotated[float, Parameter(validator=Number(gt=0))] = 60.0,
    config: options.Config = None,
    preset: options.Preset = None,
    settings: options.Settings = options.UNSET,
    federation: Sharing = Federation(),  # noqa: B008 (immutable)
    out: Path | None = None,
    overwrite: bool = False,
    json: options.Json = False,
) -> None:
    """Train one model across sites that keep their images, and write it as a run.

    The images of --data are the coordinator's own: they name the classes, choose the round, and test the result.
    Control-C ends training after the current round.

    Args:
        keys: The public key of each site, such as north.pub; the file's name is the site's.
        certificate: The TLS certificate of this computer.
        key: The private key of the certificate.
        host: The address of this computer at which sites connect.
        port: The port there.
        patience: Minutes that sites have to connect, and for each reply.
        out: The run folder; by default a new one in runs/.
        overwrite: Delete an older run in the same folder.
    """
    from shpeft.jobs.flower.keys import read_file, read_public_keys
    from shpeft.jobs.flower.superlink import SuperLink
    from shpeft.pipeline.federated import coordinate
    from shpeft.pipeline.federated.settings import check_settings

    chosen = options.configuration(config, preset, settings)
    check_settings(chosen, federation)
    public = read_public_keys(keys)
    for path in (certificate, key):
        read_file(path)
    interrupts = Interrupts()
    with (
        SuperLink(public, certificate=certificate, key=key, host=host, port=port, patience=60 * patience) as sites,
        output.progress_bar() as (progress, line),
        interrupts.handled(),
    ):
        line(f"Waiting for sites at {host}:{port}: {', '.join(public)}.")
        sites.wait_for(federation.at_least)
        folder = RunFolder.create(out, chosen, overwrite=overwrite) if out else new_run(chosen)
        metrics = coordinate(
            folder.config,
            federation,
            folder,
            sites,
            progress=progress,
            on_epoch=interrupts.count(line),
            report=line,
            stop=lambda: interrupts.asked,
        )
    _print_results(folder, metrics, json)


def _print_results(folder: RunFolder, metrics: dict[str, Any], json: bool) -> None:
    if json:
        output.as_json({"run": str(folder.path), **metrics})
        return
    print(folder.state.read().message)
    output.table(
        ["site", "images", "rounds", "KB sent", "KB received"],
        [
            [name, row["images"], row["rounds"], f"{row['sent'] / 1e3:,.0f}", f"{row['received'] / 1e3:,.0f}"]
            for name, row in metrics["federated"]["sites"].items()
        ],
    )
    output.headline(folder.reliability.read())
    output.results(metrics)
    print(f"Run folder: {folder.path}")
    output.notice()

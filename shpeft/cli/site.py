"""``shpeft site``: take part in training one model across hospitals; the images stay here."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from shpeft.cli import options, output
from shpeft.config import RunConfig
from shpeft.errors import ConfigError
from shpeft.runs import RunFolder, new_run
from shpeft.support.isolation import isolate


def site(
    address: str,
    /,
    *,
    root_certificate: Path,
    key: Path,
    patience: Annotated[float, Parameter(validator=Number(gt=0))] = 60.0,
    config: options.Config = None,
    settings: options.Settings = options.UNSET,
    max_epsilon: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Train on this site's images what the coordinator asks for, and write the result as a run.

    Only connections to the coordinator are made, and no code comes from it. Selection, training and seed are the
    coordinator's; images, backbone, decision rules, device and precision are this site's own.

    Args:
        address: HOST:PORT of the coordinator.
        root_certificate: The certificate that signed the coordinator's, or that certificate itself.
        key: The private key of this site; the coordinator has the public one.
        patience: Minutes to try again where the coordinator cannot be reached.
        max_epsilon: Take part with record-level differential privacy alone, of at most this ε.
        out: The run folder; by default a new one in runs/.
        overwrite: Delete an older run in the same folder.
    """
    from shpeft.jobs.flower.keys import read_file, read_private_key
    from shpeft.jobs.flower.supernode import take_part
    from shpeft.pipeline.federated import Site
    from shpeft.pipeline.federated.requests import Settings

    given = settings.model_fields_set & set(Settings.model_fields)
    if given:
        raise ConfigError(
            f"The coordinator decides on {sorted(given)[0]}: leave out {options.given_options(settings)[0]}."
        )
    chosen = options.configuration(config, None, settings)
    if out is not None and not overwrite and (out / "config.yaml").exists():
        raise ConfigError(f"{out} already holds a run. Choose another path, or overwrite it (--overwrite).")
    read_file(root_certificate)
    private = read_private_key(key)
    isolate()
    made: list[RunFolder] = []

    def open_folder(complete: RunConfig) -> RunFolder:
        if made:  # the coordinator began anew
            folder = RunFolder.create(made[0].path, complete, overwrite=True)
        else:
            folder = RunFolder.create(out, complete, overwrite=overwrite) if out else new_run(complete)
        made[:] = [folder]
        return folder

    with (
        output.progress_bar() as (progress, line),
        Site(chosen, open_folder, max_epsilon=max_epsilon, progress=progress, report=line) as part,
    ):
        line(f"Connecting to {address}.")
        take_part(part, address, root_certificate=root_certificate, key=private, patience=60 * patience)
    print(made[0].state.read().message)
    output.headline(made[0].reliability.read())
    output.results(made[0].metrics.read() or {})
    print(f"Run folder: {made[0].path}")
    output.notice()

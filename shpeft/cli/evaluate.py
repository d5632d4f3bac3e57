"""``shpeft evaluate``: the metrics of a finished run, on its own test images or on external data."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shpeft.cli import options, output
from shpeft.config import DatasetConfig, fields, option
from shpeft.errors import ConfigError
from shpeft.runs import RunFolder

Reading = Annotated[DatasetConfig, Parameter("*", negative_bool="no-", group="Images")]

UNSET = DatasetConfig()


def evaluate(
    run: Path, /, *, reading: Reading = UNSET, device: options.Device = "auto", json: options.Json = False
) -> None:
    """Test a finished run on its own test images, or with --data on all images of external data.

    External data may lack a class and need no training images; a table may have other column names (--columns). The
    linear probe stands beside the fine-tuned model, and the change from the internal test has an interval.

    Args:
        run: A run folder.
    """
    folder = RunFolder.open(run)
    settings = {name: getattr(reading, name) for name in reading.model_fields_set}
    source = settings.pop("source", None)
    from shpeft.pipeline import evaluate_run
    from shpeft.pipeline.loaded_run import READING

    names = {path: option(path, field) for path, _, field in fields(DatasetConfig)}
    unused = [names[name] for name in settings if name not in READING or source is None]
    if unused:
        where = "external data (--data)" if source is None else "external data, which are tested whole"
        raise ConfigError(f"{unused[0]} has no effect here: leave it out. Options of images are for {where}.")
    with output.progress_bar() as (progress, _):
        _, metrics = evaluate_run(folder, source, settings=settings, device=device, progress=progress)
    if json:
        output.as_json({"run": folder.name, **metrics})
        return
    output.evaluation(folder.name, metrics)
    output.notice()

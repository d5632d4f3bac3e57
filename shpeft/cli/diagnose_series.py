"""``shpeft diagnose --series-rule``: one answer to each series of DICOM slices."""

import json as json_format
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.cli import output
from shpeft.support.atomic_files import write_atomic
from shpeft.support.jsonable import to_jsonable

if TYPE_CHECKING:
    from shpeft.config.schema import SeriesRule
    from shpeft.pipeline import LoadedRun
    from shpeft.runs import RunFolder


def diagnose_all(
    loaded: "LoadedRun",
    run: "RunFolder",
    inputs: Sequence[Path],
    rule: "SeriesRule",
    *,
    saliency: str | None,
    target: str | None,
    note: str,
    finding: str,
    seed: int,
    out: Path | None,
    results: Path | None,
    json: bool,
) -> None:
    """Print the answer to each series, and write its files."""
    from shpeft.batch import open_source
    from shpeft.batch.series import list_series
    from shpeft.batch.series_rules import diagnose_series
    from shpeft.service.worker import series_results

    entries = []
    with output.progress_bar() as (progress, _), open_source(inputs, progress) as source:
        listed = list_series(source, progress)
        for name, reason in listed.left_out:
            print(f"{name}: {reason}", file=sys.stderr)
        for number, series in enumerate(listed.series, start=1):
            diagnosis = diagnose_series(loaded, series, rule, progress=progress)
            name = f"series{number:04d}_{series.identity}"
            entry: dict[str, Any] = to_jsonable({"id": name, "run": loaded.name, **diagnosis.to_dict()})
            if results is not None:
                made = series_results(
                    loaded,
                    run,
                    series,
                    diagnosis,
                    method=saliency,
                    target=target,
                    note=note,
                    finding=finding,
                    seed=seed,
                    progress=progress,
                )
                files = [path.name for path in made.write(results, name)]
                entry["dicom"] = {"files": files, "omitted": list(made.omitted)}
            if out is not None:
                write_atomic(out / f"{name}.json", json_format.dumps(entry, indent=1, ensure_ascii=False) + "\n")
            entries.append((entry, diagnosis))
    if json:
        output.as_json([entry for entry, _ in entries])
        return
    for entry, diagnosis in entries:
        output.diagnosis(entry["id"], diagnosis.diagnosis)
        for sentence in diagnosis.sentences:
            print(f"  {sentence}")
        if results is not None:
            output.dicom_files(entry["dicom"], results)
    output.notice()

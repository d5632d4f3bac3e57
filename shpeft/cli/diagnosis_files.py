"""Files about diagnosed images. They are named by the image's number and content, never by its file name."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.errors import ShpeftError
from shpeft.support.atomic_files import write_atomic
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent

if TYPE_CHECKING:
    from shpeft.diagnosis import Diagnosis
    from shpeft.pipeline import LoadedRun
    from shpeft.runs import RunFolder


def make_folder(path: Path) -> None:
    """Make a folder for exports, its parents included.

    Raises:
        ShpeftError: a file has this name, or the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ShpeftError(f"The folder {path} cannot be made: {error.strerror}. Choose another with --out.") from None


def diagnose_file(
    loaded: "LoadedRun",
    run: "RunFolder",
    path: Path,
    number: int,
    *,
    saliency: str | None = None,
    target: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    results: Path | None = None,
    note: str = "",
    finding: str = "",
    progress: Progress = silent,
) -> "tuple[dict[str, Any], Diagnosis]":
    """Diagnose one image, write its files, and return entry and diagnosis; neither has the image's file name.

    Args:
        loaded: the model.
        run: its run folder.
        path: the image.
        number: of the image, counted from 1.
        saliency: a saliency method; None: no map, or with ``results`` the model's default.
        target: the class to explain; None: the one that the answer is about.
        seed: of the method.
        out: a folder for a JSON file and an overlay.
        results: a folder for results in DICOM, see :mod:`shpeft.reports.dicom`.
        note, finding: for the report among these results.
        progress: the progress callback.
    """
    from shpeft.diagnosis import diagnose as diagnose_image
    from shpeft.explanation.saliency import check_map, default_method, overlay
    from shpeft.images import open_image
    from shpeft.reports.dicom import read_source, results_with_report

    if results is not None:
        read_source(path.read_bytes())  # before any work: without a study, there is nowhere to file results
        saliency = saliency or default_method(loaded.backbone)
    image = open_image(path, loaded.decoding)
    diagnosis = diagnose_image(
        loaded.backbone,
        image,
        method=saliency,
        target=target,
        reliability=loaded.reliability,
        ood_detector=loaded.ood_detector,
        seed=seed,
        progress=progress,
    )
    name = f"{number:04d}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    entry: dict[str, Any] = to_jsonable({"id": name, "run": loaded.name, **diagnosis.to_dict()})
    withheld, sanity = "", None
    if diagnosis.saliency is not None:
        inputs = loaded.backbone.transform(image)
        checked = check_map(loaded.backbone, inputs, diagnosis.saliency, seed=seed, progress=progress)
        withheld, sanity = checked.withheld, checked.sanity
        entry["sanity"] = None if checked.sanity is None else checked.sanity.to_dict()
        entry["withheld"] = withheld
    if results is not None:
        shown = diagnosis if sanity is not None else replace(diagnosis, saliency=None)
        files = results_with_report(
            run, path.read_bytes(), shown, decoding=loaded.decoding, sanity=sanity, note=note, finding=finding
        )
        omitted = ([withheld] if sanity is None else []) + list(files.omitted)
        entry["dicom"] = {"files": [file.name for file in files.write(results, name)], "omitted": omitted}
    if out is not None:
        if diagnosis.saliency is not None and not withheld:
            buffer = io.BytesIO()
            overlay(image, diagnosis.saliency.map).save(buffer, "PNG")
            write_atomic(out / f"{name}.png", buffer.getvalue())
            entry["overlay"] = f"{name}.png"
        write_atomic(out / f"{name}.json", json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    return entry, diagnosis


def report_file(
    loaded: "LoadedRun",
    run: "RunFolder",
    path: Path,
    *,
    saliency: str | None = None,
    target: str | None = None,
    note: str = "",
    finding: str = "",
    seed: int = 0,
    progress: Progress = silent,
) -> str:
    """Return the HTML report on one image, with a saliency map, its checks, and the effect of the trained weights."""
    from shpeft.diagnosis import diagnose as diagnose_image
    from shpeft.explanation.attribution import attribute_weights
    from shpeft.explanation.saliency import check_map, default_method
    from shpeft.images import open_image
    from shpeft.reports import report

    data = path.read_bytes() if path.is_file() else path
    diagnosis = diagnose_image(
        loaded.backbone,
        data,
        decoding=loaded.decoding,
        method=saliency or default_method(loaded.backbone),
        target=target,
        reliability=loaded.reliability,
        ood_detector=loaded.ood_detector,
        seed=seed,
        progress=progress,
    )
    assert diagnosis.saliency is not None
    explained = diagnosis.saliency.target
    inputs = loaded.backbone.transform(open_image(data, loaded.decoding))
    sanity = check_map(loaded.backbone, inputs, diagnosis.saliency, seed=seed, progress=progress).sanity
    if sanity is None:  # the map is the same everywhere
        diagnosis = replace(diagnosis, saliency=None)
    with loaded.pretrained() as base:
        attribution = attribute_weights(base, loaded.delta, inputs, explained, progress=progress)
    return report(diagnosis, data, run, sanity=sanity, attribution=attribution, note=note, finding=finding)

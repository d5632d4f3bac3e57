"""Files for other programs. What is written of an image is named by its number and content, never by its name."""

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.errors import ShpeftError
from shpeft.files import write_atomic
from shpeft.progress import Progress, silent
from shpeft.runs.formats import plain

if TYPE_CHECKING:
    from shpeft.pipeline import LoadedRun
    from shpeft.runs import RunFolder


def make_folder(path: Path) -> None:
    """Make a folder for exports, its parents included.

    Raises:
        ShpeftError: something is in the way, or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ShpeftError(f"The folder {path} cannot be made: {error.strerror}. Choose another with --out.") from None


def diagnose_file(
    loaded: "LoadedRun",
    path: Path,
    number: int,
    *,
    saliency: str | None = None,
    target: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Diagnose one image and write its files; the entry has no trace of the image's name."""
    from shpeft.diagnosis import diagnose as diagnose_image
    from shpeft.images import open_image
    from shpeft.saliency import overlay

    image = open_image(path, loaded.decoding)
    found = diagnose_image(
        loaded.backbone,
        image,
        saliency=saliency,
        target=target,
        trust=loaded.trust,
        novelty=loaded.novelty,
        seed=seed,
        progress=progress,
    )
    name = f"{number:04d}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    entry: dict[str, Any] = plain({"id": name, "run": loaded.name, **found.to_dict()})
    if out is not None:
        if found.saliency is not None:
            buffer = io.BytesIO()
            overlay(image, found.saliency.map).save(buffer, "PNG")
            write_atomic(out / f"{name}.png", buffer.getvalue())
            entry["overlay"] = f"{name}.png"
        write_atomic(out / f"{name}.json", json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    return entry


def report_file(
    loaded: "LoadedRun",
    run: "RunFolder",
    path: Path,
    *,
    saliency: str | None = None,
    target: str | None = None,
    note: str = "",
    seed: int = 0,
    progress: Progress = silent,
) -> str:
    """The report on one image, with a map and its checks, and with what the trained weights did."""
    from shpeft.attribution import attribute_weights
    from shpeft.diagnosis import diagnose as diagnose_image
    from shpeft.images import open_image
    from shpeft.reports import report
    from shpeft.saliency import DEFAULT, check_saliency

    data = path.read_bytes() if path.is_file() else path
    found = diagnose_image(
        loaded.backbone,
        data,
        decoding=loaded.decoding,
        saliency=saliency or DEFAULT,
        target=target,
        trust=loaded.trust,
        novelty=loaded.novelty,
        seed=seed,
        progress=progress,
    )
    assert found.saliency is not None
    inputs = loaded.backbone.transform(open_image(data, loaded.decoding))
    sanity = check_saliency(loaded.backbone, inputs, found.saliency, seed=seed, progress=progress)
    with loaded.pretrained() as base:
        attribution = attribute_weights(base, loaded.delta, inputs, found.saliency.target, progress=progress)
    return report(found, data, run, sanity=sanity, attribution=attribution, note=note)

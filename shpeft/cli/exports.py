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

"""Build the report: collect its parts, check that they belong together, and render the HTML."""

import base64
import io
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from shpeft import NOTICE
from shpeft.delta.file import read_header
from shpeft.diagnosis import Diagnosis, case_id
from shpeft.errors import ClassMismatch, DiagnosisError, RunError
from shpeft.evaluation import AnyReliability, IntervalReliability, assess_case, estimate_case
from shpeft.explanation.attribution import WeightAttribution
from shpeft.explanation.saliency import METHODS, Sanity, overlay
from shpeft.images import Decoding, ImageSource, open_image
from shpeft.reports import image_section, provenance_section
from shpeft.runs import RunFolder
from shpeft.support.image_size import height_and_width


def report(
    diagnosis: Diagnosis,
    image: ImageSource,
    run: RunFolder | str | Path,
    *,
    case: str = "",
    sanity: Sanity | None = None,
    attribution: WeightAttribution | None = None,
    note: str = "",
    finding: str = "",
    made: datetime | None = None,
) -> str:
    """Return a self-contained HTML page about one diagnosis, for the file of a case: one sheet, and an appendix.

    The page needs no script and no network; its pictures are embedded, lossless PNGs. Only the pixels of the image's
    file enter the page, no metadata. All names are escaped, and a content security policy blocks scripts.

    Args:
        diagnosis: the result to report.
        image: the image that was diagnosed; it is decoded like the run's own images.
        run: the finished run whose model made the diagnosis.
        case: id of the case; by default made of the file's content, see :func:`shpeft.diagnosis.case_id`.
        sanity: checks of the diagnosis's map.
        attribution: effect of the trained weights on a class's score for this image.
        note: a remark of the reader.
        finding: the reader's own finding; empty: a field to fill in by hand.
        made: date of the report; by default now.

    Returns:
        the HTML.

    Raises:
        DiagnosisError: image, map, checks or decision rules are not those of the diagnosis.
        ClassMismatch: another model made the diagnosis.
        RunError: the run is not finished.

    Examples:
        >>> import tempfile, shpeft
        >>> from shpeft.pipeline import load_run, run
        >>> from shpeft.runs import RunFolder
        >>> config = shpeft.RunConfig.model_validate({
        ...     "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        ...     "dataset": {"source": "phantom:fundus?n=36&size=64"},
        ...     "selection": {"budget": 20, "images": 8},
        ...     "training": {"epochs": 1},
        ... })
        >>> image = shpeft.load_dataset("phantom:fundus?n=36&size=64").test.image(0)
        >>> with tempfile.TemporaryDirectory() as path:
        ...     folder = RunFolder.create(path + "/first", config)
        ...     _ = run(config, folder)
        ...     model = load_run(folder)
        ...     diagnosis = shpeft.diagnose(model.backbone, image, reliability=model.reliability)
        ...     html = shpeft.report(diagnosis, image, folder)
        >>> html.startswith("<!DOCTYPE html>")
        True
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    metrics = folder.metrics.read()
    if metrics is None or not folder.delta_path.exists():
        raise RunError(f"The run {folder.name} has no model yet. A report needs a finished run.")
    header, reliability = read_header(folder.delta_path), folder.reliability.read()
    _check(diagnosis, tuple(header["classes"]), reliability, sanity)
    opened, default_case = _open(image, Decoding(folder.config.dataset.window, folder.config.dataset.frame))
    if opened.size != diagnosis.image_size:
        raise DiagnosisError(
            f"The diagnosed image has {' x '.join(map(str, diagnosis.image_size))} pixels; this one has "
            f"{' x '.join(map(str, opened.size))}. Give the image that was diagnosed."
        )
    saliency, withheld = diagnosis.saliency, sanity is not None and bool(sanity.withheld)
    return template("report.html").render(
        notice=NOTICE,
        case=case or default_case,
        made=_stamp(made or datetime.now()),
        run=folder.name,
        classes=diagnosis.classes,
        target=diagnosis.target,
        note=note.strip(),
        size=opened.size,
        input_size=height_and_width(header["image_size"])[::-1],
        picture=_png(opened),
        map_picture=None if saliency is None or withheld else _png(overlay(opened, saliency.map)),
        method=None if saliency is None else METHODS[saliency.method].title,
        badge=image_section.badge(sanity),
        badge_passed=None if sanity is None else sanity.passed,
        cautions=diagnosis.cautions,
        headline=diagnosis.answer.headline,
        given=diagnosis.answer.given,
        answer=image_section.answer(diagnosis, reliability if diagnosis.calibrated else None),
        details=image_section.details(diagnosis),
        finding=finding.strip(),
        saliency=None if saliency is None else image_section.saliency(diagnosis, sanity),
        weights=None if attribution is None else image_section.weights(attribution, diagnosis.classes),
        model=provenance_section.model(header, metrics, reliability),
        data=provenance_section.data(metrics["dataset"]),
        provenance=provenance_section.provenance(header, folder.delta_path, folder.config.seed),
    )


def _check(
    diagnosis: Diagnosis, classes: tuple[str, ...], reliability: AnyReliability | None, sanity: Sanity | None
) -> None:
    """Check that the parts belong to one result."""
    if diagnosis.classes != classes:
        raise ClassMismatch(
            f"The diagnosis has the classes {', '.join(diagnosis.classes)}; the run's model has {', '.join(classes)}. "
            "Give the run that diagnosed the image."
        )
    fitted = {} if reliability is None else reliability.parts
    parts = dict(zip(diagnosis.classes, diagnosis.findings, strict=True)) if diagnosis.findings else {"": diagnosis}
    if any(
        part.reliability is not None
        and (name not in fitted or assess_case(fitted[name], part.probabilities, part.predicted) != part.reliability)
        for name, part in parts.items()
    ):
        raise DiagnosisError(
            "The run's calibration, threshold, prediction sets or abstain band have changed since this diagnosis. "
            "Diagnose the image again."
        )
    if diagnosis.estimate is not None:
        fitted_interval = reliability if isinstance(reliability, IntervalReliability) else None
        own = diagnosis.estimate
        if own.coverage is not None and own != estimate_case(own.quantity, own.value, own.unit, fitted_interval):
            raise DiagnosisError("The run's interval has changed since this diagnosis. Diagnose the image again.")
    explained = None if diagnosis.saliency is None else (diagnosis.saliency.method, diagnosis.saliency.target)
    if sanity is not None and (sanity.method, sanity.target) != explained:
        raise DiagnosisError("The sanity checks belong to another map than the diagnosis's. Check the map again.")


def _stamp(made: datetime) -> str:
    """Format a time as ``2026-11-25 09:14 UTC+01:00``."""
    stamp = made.astimezone().isoformat(" ", "minutes") if made.tzinfo is None else made.isoformat(" ", "minutes")
    return f"{stamp[:16]} UTC{stamp[16:]}"


def _open(source: ImageSource, decoding: Decoding) -> tuple[Image.Image, str]:
    """Open the image; return it with an id made of its file's content, or of its pixels if there is no file."""
    if isinstance(source, Image.Image | np.ndarray):
        opened = open_image(source, decoding)
        return opened, case_id(opened.tobytes())
    if isinstance(source, str | Path):
        opened = open_image(source, decoding)  # first: it reports a path that cannot be read
        return opened, case_id(Path(source).read_bytes())
    data = source if isinstance(source, bytes) else source.read()
    return open_image(data, decoding), case_id(data)


def _png(image: Image.Image) -> str:
    """Return the pixels as a data URL. A new image drops the file's metadata, such as profiles and texts."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("RGB"))).save(buffer, "PNG", optimize=False, compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def template(name: str) -> Template:
    """Return a template of this package; what it is filled with is escaped."""
    environment = Environment(
        loader=PackageLoader("shpeft.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)

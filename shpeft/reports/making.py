"""The report itself: everything gathered, checked to belong together, and written as HTML."""

import base64
import io
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from shpeft import NOTICE
from shpeft.attribution import WeightAttribution
from shpeft.deltafile import read_header
from shpeft.diagnosis import Diagnosis, case_id
from shpeft.errors import ClassMismatch, DiagnosisError, RunError
from shpeft.images import Decoding, ImageSource, open_image
from shpeft.reports import cards, findings
from shpeft.runs import RunFolder
from shpeft.saliency import METHODS, Sanity, overlay
from shpeft.trust import Trust, judge

OPACITY = 0.5
"""Of the map where it is strongest."""


def report(
    diagnosis: Diagnosis,
    image: ImageSource,
    run: RunFolder | str | Path,
    *,
    case: str = "",
    sanity: Sanity | None = None,
    attribution: WeightAttribution | None = None,
    note: str = "",
    made: datetime | None = None,
) -> str:
    """One self-contained HTML page about one diagnosis, for people who file it.

    It needs no script and asks no host for anything; pictures are PNGs within, without loss. Of the image's file
    nothing but the pixels gets in. Names are escaped, and a policy in the page forbids what escaping might miss.

    In a notebook::

        folder = shpeft.runs.find_run("first")
        run = shpeft.pipeline.load_run(folder)
        found = shpeft.diagnose(run.backbone, "scan.dcm", decoding=run.decoding, trust=run.trust, novelty=run.novelty)
        Path("report.html").write_text(shpeft.report(found, "scan.dcm", folder))

    Args:
        image: the one that was diagnosed; it is decoded as the run's images are.
        run: the finished run whose model diagnosed it.
        case: what to call it; made of the file's content by default, see :func:`shpeft.diagnosis.case_id`.
        sanity: what was found of the diagnosis's map.
        attribution: what the trained weights did to a class's score on this image.
        note: a remark of the reader's.
        made: the date; now by default.

    Returns:
        the HTML.

    Raises:
        DiagnosisError: image, map, sanity or threshold are not those of the diagnosis.
        ClassMismatch: the diagnosis is another model's.
        RunError: the run is not finished.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    metrics = folder.metrics()
    if metrics is None or not folder.delta_path.exists():
        raise RunError(f"The run {folder.name} has no model yet: a report needs a finished run.")
    header, trust = read_header(folder.delta_path), folder.trust()
    _check(diagnosis, tuple(header["classes"]), trust, sanity)
    opened, made_of = _opened(image, Decoding(folder.config.dataset.window, folder.config.dataset.frame))
    if opened.size != diagnosis.image_size:
        raise DiagnosisError(
            f"The diagnosis is of an image of {' x '.join(map(str, diagnosis.image_size))} pixels; this one has "
            f"{' x '.join(map(str, opened.size))}. Give the image that was diagnosed."
        )
    found = diagnosis.saliency
    return _template().render(
        notice=NOTICE,
        case=case or made_of,
        made=_stamp(made or datetime.now()),
        run=folder.name,
        classes=diagnosis.classes,
        target=diagnosis.target,
        note=note.strip(),
        size=opened.size,
        input_size=header["image_size"],
        picture=_png(opened),
        map_picture=None if found is None else _png(overlay(opened, found.map, OPACITY)),
        method=None if found is None else METHODS[found.method].title,
        badge=findings.badge(sanity),
        badge_passed=None if sanity is None else sanity.passed,
        result=findings.result(diagnosis, None if diagnosis.judgement is None else trust),
        saliency=None if found is None else findings.saliency(diagnosis, sanity),
        weights=None if attribution is None else findings.weights(attribution, diagnosis.classes),
        model=cards.model(header, metrics, trust),
        data=cards.data(metrics["dataset"]),
        making=cards.making(header, folder.delta_path, folder.config.seed),
    )


def _check(found: Diagnosis, classes: tuple[str, ...], trust: Trust | None, sanity: Sanity | None) -> None:
    """Whether the parts belong together: a report must not join what was never one result."""
    if found.classes != classes:
        raise ClassMismatch(
            f"The diagnosis tells apart {', '.join(found.classes)}, and the run's model {', '.join(classes)}. Give the "
            "run that diagnosed the image."
        )
    if found.judgement is not None and (trust is None or judge(trust, found.probabilities) != found.judgement):
        raise DiagnosisError(
            "The run's calibration, threshold, prediction sets or abstain band have changed since this diagnosis. "
            "Diagnose the image again."
        )
    of_map = None if found.saliency is None else (found.saliency.method, found.saliency.target)
    if sanity is not None and (sanity.method, sanity.target) != of_map:
        raise DiagnosisError("The sanity checks are of another map than the diagnosis has. Check the map again.")


def _stamp(made: datetime) -> str:
    """``2026-11-25 09:14 UTC+01:00``."""
    stamp = made.astimezone().isoformat(" ", "minutes") if made.tzinfo is None else made.isoformat(" ", "minutes")
    return f"{stamp[:16]} UTC{stamp[16:]}"


def _opened(source: ImageSource, decoding: Decoding) -> tuple[Image.Image, str]:
    """The image, and an id made of its file's content, or of its pixels where there is no file."""
    if isinstance(source, Image.Image):
        opened = open_image(source, decoding)
        return opened, case_id(opened.tobytes())
    if isinstance(source, str | Path):
        opened = open_image(source, decoding)  # says what is wrong with a place that cannot be read
        return opened, case_id(Path(source).read_bytes())
    data = source if isinstance(source, bytes) else source.read()
    return open_image(data, decoding), case_id(data)


def _png(image: Image.Image) -> str:
    """The pixels as a data address. Made anew of them: what a file says besides (profiles, texts) stays behind."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image.convert("RGB"))).save(buffer, "PNG", optimize=False, compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("shpeft.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")

"""The saliency map as DICOM images: its exact values as a Parametric Map, and the picture with its legend."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shpeft import NOTICE
from shpeft.diagnosis import CAPTION, Diagnosis
from shpeft.explanation.saliency import HUE, METHODS, overlay
from shpeft.reports.dicom.codes import coding_scheme
from shpeft.reports.dicom.made_by import Model, finish
from shpeft.reports.dicom.source import Source

if TYPE_CHECKING:
    from pydicom import Dataset

LEAST_WIDTH = 640
"""Pixels of the picture's width from which on its legend can be read; smaller images are enlarged by whole factors."""

LETTER = 1 / 40
"""Height of the legend's letters over the picture's width."""


def parametric_map(diagnosis: Diagnosis, source: Source, model: Model) -> "Dataset":
    """Return the map's own values as a Parametric Map over the same rectangle as the image.

    The map keeps its grid of one value per pixel of the model's input, without interpolation; each value has its
    position in the patient. The standard has no Parametric Map of an image without a geometry.
    """
    import highdicom
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes

    assert diagnosis.saliency is not None
    assert source.geometry is not None
    values = diagnosis.saliency.map.astype(np.float32)
    top = max(float(values.max()), float(np.finfo(np.float32).tiny))
    grid = source.geometry.of_grid(*source.size, (values.shape[0], values.shape[1]))
    result = ParametricMap(
        source_images=[_placed(source)],
        pixel_array=values,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="SALIENCY",
                lut_explanation="Saliency, unit free",
                unit=codes.UCUM.NoUnits,
                value_range=(0.0, top),
                slope=1.0,
                intercept=0.0,
                quantity_definition=codes.DCM.Saliency,
            )
        ],
        voi_lut_transformations=[highdicom.VOILUTTransformation(top / 2, top, voi_lut_function="LINEAR_EXACT")],
        content_label="SALIENCY",
        content_description=_title(diagnosis)[:64],
        coding_schemes=[coding_scheme()],
        pixel_measures=highdicom.PixelMeasuresSequence(grid.spacing, grid.thickness or None),
        plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", grid.orientation.tolist()),
        plane_positions=[highdicom.PlanePositionSequence("PATIENT", grid.position.tolist())],
        **model.equipment("map"),
    )
    result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)  # a guess
    if source.frames > 1:
        derivation = result.PerFrameFunctionalGroupsSequence[0].get("DerivationImageSequence") or ()
        for item in (
            *result.SourceImageSequence,
            *(item for group in derivation for item in group.SourceImageSequence),
        ):
            item.ReferencedFrameNumber = source.frame + 1
    return finish(result, f"Saliency, for research: {METHODS[diagnosis.saliency.method].title}"[:64], source.laterality)


def secondary_capture(diagnosis: Diagnosis, image: Image.Image, source: Source, model: Model) -> "Dataset":
    """Return the picture with the map and its legend as a Secondary Capture, for viewers that know no maps."""
    from highdicom.sc import SCImage

    result = SCImage.from_ref_dataset(
        ref_dataset=source.tags,
        pixel_array=np.asarray(with_legend(diagnosis, image)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # the library wants one; the file's own follows
        **{name: value for name, value in model.equipment("picture").items() if name != "device_serial_number"},
    )
    result.ConversionType, result.ImageType = "WSD", ["DERIVED", "SECONDARY"]
    result.DeviceSerialNumber = model.delta
    result.PatientOrientation = list(source.tags.get("PatientOrientation") or ())
    if "BurnedInAnnotation" in source.tags:  # the picture shows what the image shows
        result.BurnedInAnnotation = source.tags.BurnedInAnnotation
    return finish(result, "Saliency over the image, for research", source.laterality)


def with_legend(diagnosis: Diagnosis, image: Image.Image) -> Image.Image:
    """Return the image with the map over it and the legend below it: RGB, at least :data:`LEAST_WIDTH` wide."""
    assert diagnosis.saliency is not None
    factor = max(1, -(-LEAST_WIDTH // image.width))
    shown = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    picture = overlay(shown, diagnosis.saliency.map)
    size = max(12, round(LETTER * picture.width))
    font = ImageFont.load_default(size)
    lines = (
        diagnosis.answer.headline,
        f"{_title(diagnosis)}. {CAPTION}",
        "From clear (no effect) to blue (the score depends most on these pixels):",
        "",
        NOTICE,
    )
    wrapped = [part for line in lines for part in (_wrapped(line, font, picture.width - 2 * size) or [""])]
    height = round(1.4 * size)
    canvas = Image.new("RGB", (picture.width, picture.height + height * (len(wrapped) + 1)), "black")
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(wrapped):
        top = picture.height + height // 2 + number * height
        if line:
            draw.text((size, top), line, "white", font)
        else:
            canvas.paste(_ramp(picture.width - 2 * size, size), (size, top))
    return canvas


def _title(diagnosis: Diagnosis) -> str:
    assert diagnosis.saliency is not None
    what = "the score of" if diagnosis.estimate is None else "the predicted"
    return f"{METHODS[diagnosis.saliency.method].title} for {what} {diagnosis.target}"


def _ramp(width: int, height: int) -> Image.Image:
    """Return the legend's ramp, from black to the map's color."""
    levels = np.linspace(0, 1, width)[None, :, None] * np.array(HUE, dtype=np.float64)
    return Image.fromarray(np.repeat(np.round(levels), height, axis=0).astype(np.uint8))


def _wrapped(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels, between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _placed(source: Source) -> "Dataset":
    """Return the source's tags as those of the single frame that the map is of, with its geometry."""
    from copy import deepcopy

    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from pydicom import Dataset

    assert source.geometry is not None
    tags, geometry = deepcopy(source.tags), source.geometry
    tags.NumberOfFrames = 1  # the map is of one frame, whose geometry follows
    tags.ImagePositionPatient = geometry.position.tolist()
    tags.ImageOrientationPatient = geometry.orientation.tolist()
    tags.PixelSpacing, tags.SliceThickness = list(geometry.spacing), geometry.thickness
    shared, frame = Dataset(), Dataset()  # where the library looks in a file of several frames
    shared.PixelMeasuresSequence = PixelMeasuresSequence(geometry.spacing, geometry.thickness)
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", geometry.orientation.tolist())
    frame.PlanePositionSequence = PlanePositionSequence("PATIENT", geometry.position.tolist())
    tags.SharedFunctionalGroupsSequence, tags.PerFrameFunctionalGroupsSequence = [shared], [frame]
    return tags

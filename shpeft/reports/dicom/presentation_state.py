"""The window through which the model saw the image, as a presentation state that viewers apply."""

from typing import TYPE_CHECKING

from shpeft.images import Pixels, View
from shpeft.reports.dicom.made_by import Model, finish
from shpeft.reports.dicom.source import Source

if TYPE_CHECKING:
    from highdicom.content import VOILUT
    from pydicom import Dataset

SMALLEST_WIDTH = 1e-6
"""Width of the window of an image whose values are all equal: DICOM allows none of 0."""


def presentation_state(pixels: Pixels, source: Source, model: Model) -> "Dataset":
    """Return the window of a gray image as a Grayscale Softcopy Presentation State."""
    import highdicom
    from highdicom.content import ReferencedImageSequence
    from highdicom.pr import GrayscaleSoftcopyPresentationState, SoftcopyVOILUTTransformation

    view = pixels.view
    referenced = ReferencedImageSequence([source.tags], [source.frame + 1] if source.frames > 1 else None)
    window = (
        {"voi_luts": [_table(view)]}
        if view.table is not None
        else dict(zip(("window_center", "window_width", "voi_lut_function"), center_width(view), strict=True))
    )
    rescaling = highdicom.ModalityLUTTransformation(
        rescale_intercept=pixels.intercept,
        rescale_slope=pixels.slope,
        rescale_type="HU" if pixels.hounsfield else "US",
    )
    result = GrayscaleSoftcopyPresentationState(
        referenced_images=[source.tags],
        modality_lut_transformation=None if "ModalityLUTSequence" in source.tags else rescaling,
        voi_lut_transformations=[SoftcopyVOILUTTransformation(**window, referenced_images=referenced)],
        presentation_lut_transformation=highdicom.PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if pixels.inverted else "IDENTITY"
        ),
        content_label="MODEL_WINDOW",
        content_description="The window through which the model saw the image",
        concept_name=None,
        **model.equipment("window"),
    )
    return finish(result, "Window of the model, for research", source.laterality)


def center_width(view: View) -> tuple[float, float, str]:
    """Return center, width and function of a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Examples:
        >>> center_width(View(-160.0, 240.0))
        (40.0, 400.0, 'LINEAR_EXACT')
        >>> center_width(View(-160.0, 239.0, integers=True))
        (40.0, 400.0, 'LINEAR')
    """
    if view.sigmoid is not None:
        return *view.sigmoid, "SIGMOID"
    if view.integers:
        return (view.low + view.high + 1) / 2, view.high - view.low + 1, "LINEAR"
    return (view.low + view.high) / 2, max(view.high - view.low, SMALLEST_WIDTH), "LINEAR_EXACT"


def _table(view: View) -> "VOILUT":
    """Return a lookup table in 8 or 16 bits per entry."""
    from highdicom.content import VOILUT

    assert view.table is not None
    entries = view.table.entries
    return VOILUT(int(view.table.first), entries.astype("u1" if view.table.top <= 255 else "u2"))

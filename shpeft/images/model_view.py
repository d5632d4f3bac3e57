"""What of an image its model gets: which size, frame and window; it is resized whole, never cropped."""

import numpy as np

from shpeft.images.pixels import Pixels, View
from shpeft.images.transform import InputTransform


def model_view(pixels: Pixels, transform: InputTransform) -> str:
    """Return a sentence on the size, the frame and the window of an image as it reaches the model.

    Args:
        pixels: the frame, with the window of training.
        transform: the model's input format.

    Examples:
        >>> imagenet = InputTransform(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> window = View(-160.0, 240.0)
        >>> slices = Pixels(np.zeros((64, 48), np.int16), requested=window, hounsfield=True, frame=2, frames=7)
        >>> model_view(slices, imagenet)
        'The model gets the whole image at 224 × 224 pixels, frame 3 of 7, window center 40, width 400 HU.'
    """
    frame = f", frame {pixels.frame + 1:,} of {pixels.frames:,}" if pixels.frames > 1 else ""
    rows, columns = transform.shape
    return f"The model gets the whole image at {columns} × {rows} pixels{frame}{_window(pixels)}."


def _window(pixels: Pixels) -> str:
    """Return the window; empty for 8 bits without one."""
    if pixels.values.dtype == np.uint8 and (pixels.is_color or pixels.requested is None):
        return ""
    view: View = pixels.view
    if view.table is not None:
        return ", through the file's lookup table"
    kind = "window" if view.sigmoid is None else "sigmoid window"
    center, width = view.sigmoid or (
        (view.low + view.high + view.integers) / 2,
        view.high - view.low + view.integers,
    )
    return f", {kind} center {center:.6g}, width {width:.6g}{' HU' if pixels.hounsfield else ''}"

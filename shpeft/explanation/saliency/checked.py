"""A saliency map with its sanity checks; one that fails them is withheld."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.explanation.saliency.methods import METHODS
from shpeft.explanation.saliency.saliency_map import Saliency, explain
from shpeft.explanation.saliency.sanity import Sanity, check_saliency
from shpeft.support.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class CheckedSaliency:
    """A map and its checks.

    Attributes:
        saliency: the map.
        sanity: its checks; None if the map is the same everywhere, so that there is nothing to check.

    Examples:
        >>> import numpy as np, shpeft
        >>> flat = shpeft.Saliency("grad_cam", 0, np.zeros((32, 32), np.float32), None, 0.1)
        >>> CheckedSaliency(flat, None).withheld
        'No map is shown: that of Grad-CAM is the same everywhere.'
    """

    saliency: Saliency
    sanity: Sanity | None

    @property
    def withheld(self) -> str:
        """Why the map must not be shown, in a sentence; empty if it passes its checks."""
        if self.sanity is None:
            return f"No map is shown: that of {METHODS[self.saliency.method].title} is the same everywhere."
        return self.sanity.withheld


def explain_and_check(
    backbone: Backbone,
    inputs: Tensor,
    target: str | int,
    method: str | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> CheckedSaliency:
    """Make a map and check it, as :func:`explain` and :func:`check_saliency` do.

    Args:
        backbone: the model to explain; it is unchanged.
        inputs: normalized image (1, 3, H, W).
        target: the class to explain, by name or by index.
        method: a key of :data:`METHODS`. None: the backbone's default.
        seed: of the methods' samples and the checks.

    Raises:
        DiagnosisError: an unknown method or target, another shape, or a method that the backbone does not support.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=64")
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> _ = model.head.weight.data.normal_()
        >>> explain_and_check(model, model.transform(data.test.image(0)), 0).saliency.map.shape
        (32, 32)
    """
    saliency = explain(backbone, inputs, target, method, seed=seed, progress=progress)
    return check_map(backbone, inputs, saliency, seed=seed, progress=progress)


def check_map(
    backbone: Backbone, inputs: Tensor, saliency: Saliency, *, seed: int = 0, progress: Progress = silent
) -> CheckedSaliency:
    """Check a map as :func:`check_saliency` does; a map that is the same everywhere is withheld instead of refused."""
    if np.ptp(saliency.map) == 0:
        return CheckedSaliency(saliency, None)
    return CheckedSaliency(saliency, check_saliency(backbone, inputs, saliency, seed=seed, progress=progress))

"""Images of other kinds than a dataset's, to measure how many a gate lets through."""

from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from shpeft.datasets.phantoms.source import KINDS, load

OF_A_KIND = 6
"""Images of each kind; there are two photographs, and so many crops of each."""

SIZE, CROP = 96, 224
"""Side of a phantom and of a crop, in pixels."""


def other_images(name: str) -> list[tuple[str, Image.Image]]:
    """Return images with the name of their kind: generated phantoms, and crops of two photographs.

    Args:
        name: of the dataset that they are compared with; a phantom is no other kind than itself.

    Examples:
        >>> kinds = {kind for kind, _ in other_images("phantom:fundus")}
        >>> "photographs" in kinds, "fundus phantoms" in kinds
        (True, False)
    """
    own = next((kind for kind in KINDS if name.startswith(f"phantom:{kind}")), None)
    return [(kind, image) for kind, image in _all_kinds() if own is None or kind != _name(own)]


@cache
def _all_kinds() -> tuple[tuple[str, Image.Image], ...]:
    rng, images = np.random.default_rng(0), list[tuple[str, Image.Image]]()
    for photograph in load_sample_images().images:
        for _ in range(OF_A_KIND):
            top, left = rng.integers(0, np.array(photograph.shape[:2]) - CROP)
            images.append(("photographs", Image.fromarray(photograph[top : top + CROP, left : left + CROP])))
    for kind in KINDS:
        drawn = load(f"{kind}?size={SIZE}", seed=0, val_fraction=0.2).test
        images += [(_name(kind), drawn.image(row)) for row in range(OF_A_KIND)]
    return tuple(images)


def _name(kind: str) -> str:
    return f"{kind.replace('_', ' ')} phantoms"

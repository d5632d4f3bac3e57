"""Measures of a saliency map: how it changes with the weights and with noise, and how far the score depends on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.metrics import sensitivity_max
from scipy.stats import spearmanr
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.progress import Progress, silent
from shpeft.saliency.methods import BATCH
from shpeft.saliency.overlay import Map
from shpeft.seeding import seeded

STAGES = ("the head", "the head and the upper half", "all layers")
"""Which weights are drawn anew, one stage after the other."""

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of the image's pixels that are covered or shown, the most salient first: closer together where findings are small."""

RANDOM_MAPS = 19
"""Maps to beat: a map without meaning beats them all with a probability of 1 in 20."""

NEAREST = 1 / 4
"""How far a map to beat is moved at least along one side, as a share of it: a step aside would be the same map."""

NOISY, NOISE = 2, 0.02
"""How many noisy images the sensitivity looks at, and the noise's largest size in normalised units (Captum's own)."""

Explainer = Callable[[Backbone, Tensor, Progress], Map]
"""Makes the map (S, S) of one image (1, 3, S, S)."""


def randomisation(
    backbone: Backbone,
    image: Tensor,
    saliency_map: Map,
    explainer: Explainer,
    *,
    seed: int = 0,
    progress: Sequence[Progress] = (silent,) * len(STAGES),
) -> dict[str, float]:
    """Spearman's rank correlation of a map with that of the model with random weights, for each of :data:`STAGES`.

    Adebayo et al. 2018, cascading from the head downwards, on a copy of the model. A random weight comes from the
    normal distribution with its parameter's own mean and deviation, so that activations keep their size. Where a
    random model's map is the same everywhere the correlation counts as 0.

    Args:
        progress: one for each stage.
    """
    copy, generator = backbone.copy(), torch.Generator().manual_seed(seed)
    found = {}
    for stage, layers, report in zip(STAGES, _from_the_top(copy), progress, strict=True):
        for p in layers:
            _redraw(p, generator)
        found[stage] = rank_correlation(saliency_map, explainer(copy, image, report))
    return found


def _from_the_top(backbone: Backbone) -> Iterator[list[Tensor]]:
    """The head's parameters, those of the upper half of the depths, and the rest."""
    infos = backbone.weight_infos()
    depths = sorted({info.depth for info in infos})
    upper = set(depths[len(depths) // 2 :])
    yield list(backbone.head.parameters())
    yield [backbone.parameters[info.name] for info in infos if info.depth in upper]
    yield [backbone.parameters[info.name] for info in infos if info.depth not in upper]


@torch.no_grad()
def _redraw(p: Tensor, generator: torch.Generator) -> None:
    mean, deviation = p.mean().item(), p.std(correction=0).item()
    p.copy_(torch.empty(p.shape).normal_(mean, deviation, generator=generator))


def rank_correlation(a: Map, b: Map) -> float:
    """Spearman's, over the pixels; 0 where one of the maps is the same everywhere."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def max_sensitivity(
    image: Tensor,
    saliency_map: Map,
    explainer: Callable[[Tensor], Map],
    seed: int = 0,
) -> float:
    """The largest change of the map under :data:`NOISE`, relative to the map, in the Euclidean norm.

    Captum's ``sensitivity_max`` (Yeh et al. 2019), over :data:`NOISY` images.
    """

    def maps(images: tuple[Tensor]) -> tuple[Tensor]:  # of a bare tensor Captum would norm each row by itself
        known = torch.equal(images[0], image)
        return (torch.from_numpy(saliency_map if known else explainer(images[0]))[None],)

    with seeded(seed, image.device):
        return sensitivity_max(
            maps, image, perturb_radius=NOISE, n_perturb_samples=NOISY, max_examples_per_batch=1
        ).item()


@dataclass(frozen=True)
class Faithfulness:
    """How far the logit is from the whole image's, in logits, averaged over :data:`SHARES`.

    Attributes:
        deletion: when the most salient pixels are covered with the mean colour: far is good.
        insertion: when they alone are shown: near is good.
    """

    deletion: float
    insertion: float

    @property
    def score(self) -> float:
        """How much farther the deletion moves the logit than the insertion does."""
        return self.deletion - self.insertion


@torch.no_grad()
def faithfulness(
    backbone: Backbone, image: Tensor, target: int, saliency_map: Map, *, seed: int = 0, progress: Progress = silent
) -> tuple[Faithfulness, tuple[Faithfulness, ...]]:
    """Deletion and insertion (Petsiuk et al. 2018) of a map, and of :data:`RANDOM_MAPS` maps to beat.

    Those are the map itself, turned, mirrored and moved around the edges: as smooth and as patchy, but elsewhere.
    Pixels that are equally salient come in random order. Maps have no sign here, so distances from the image's own
    logit are taken, not falls.
    """
    rng = np.random.default_rng(seed)
    maps = [saliency_map, *(_elsewhere(saliency_map, rng) for _ in range(RANDOM_MAPS))]
    orders = [_order(each, rng) for each in maps]
    size = saliency_map.shape
    whole = backbone(image)[0, target].double().item()

    def shown() -> Iterator[Tensor]:
        """For each order, share by share: all but the most salient pixels, then the most salient alone."""
        for order in orders:
            for share in SHARES:
                keep = torch.ones(order.size, dtype=image.dtype)
                keep[torch.from_numpy(order[: max(1, round(share * order.size))])] = 0
                keep = keep.view(1, *size).to(image.device)
                yield image[0] * keep
                yield image[0] * (1 - keep)

    total, distances = 2 * len(SHARES) * len(maps), list[float]()
    for batch in _batches(shown()):
        progress("covering and showing", len(distances), total)
        distances += (backbone(batch)[:, target].double() - whole).abs().tolist()
    progress("covering and showing", total, total)
    table = np.array(distances).reshape(len(maps), len(SHARES), 2).mean(1)
    found = [Faithfulness(float(deletion), float(insertion)) for deletion, insertion in table]
    return found[0], tuple(found[1:])


def _elsewhere(saliency_map: Map, rng: np.random.Generator) -> Map:
    """The map turned, perhaps mirrored, and moved around the edges, at least :data:`NEAREST` along one side."""
    turned = np.rot90(saliency_map, int(rng.integers(4)))
    turned = turned[:, ::-1] if rng.integers(2) else turned
    side, near = saliency_map.shape[0], NEAREST * saliency_map.shape[0]
    while True:
        shift = rng.integers(side, size=2)
        if np.minimum(shift, side - shift).max() >= near:
            return np.roll(turned, tuple(shift), (0, 1))


def _order(saliency_map: Map, rng: np.random.Generator) -> np.ndarray:
    """Flat indices of the pixels, the most salient first."""
    shuffled = rng.permutation(saliency_map.size)
    return shuffled[np.argsort(-saliency_map.ravel()[shuffled], kind="stable")]


def _batches(images: Iterator[Tensor]) -> Iterator[Tensor]:
    """(3, S, S) images in batches."""
    some = list[Tensor]()
    for image in images:
        some.append(image)
        if len(some) == BATCH:
            yield torch.stack(some)
            some = []
    if some:
        yield torch.stack(some)

"""Measures of a saliency map: parameter randomization, sensitivity to noise, deletion and insertion."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from shpeft.backbones import Backbone
from shpeft.explanation.saliency.overlay import Map
from shpeft.explanation.saliency.passes import BATCH
from shpeft.support.progress import Progress, silent
from shpeft.support.seeding import seeded

STAGES = ("the head", "the head and the upper half", "all layers")
"""Weights that are randomized, cumulatively, stage by stage."""

SHARES = (1 / 32, 1 / 8, 1 / 2)
"""Shares of the pixels to cover or show, most salient first; denser at the low end, where small findings lie. Each
costs 40 passes of the check."""

RANDOM_MAPS = 19
"""Control maps: an uninformative map beats all of them with probability 1/20."""

NEAREST = 1 / 4
"""Smallest shift of a control map along a side, as a share of it; a smaller shift would give almost the same map."""

NOISY, NOISE = 2, 0.02
"""Number of noisy images, and the noise's largest size in normalized units (Captum's default)."""

Explainer = Callable[[Backbone, Tensor, Progress], Map]
"""Returns the map (H, W) of one image (1, 3, H, W)."""


def randomization(
    backbone: Backbone,
    inputs: Tensor,
    saliency_map: Map,
    explainer: Explainer,
    *,
    seed: int = 0,
    progress: Sequence[Progress] = (silent,) * len(STAGES),
) -> dict[str, float]:
    """Return the rank correlation of a map with that of the randomized model, for each of :data:`STAGES`.

    Cascading randomization from the head downwards (Adebayo et al. 2018), on a copy of the model. Random weights are
    normal with the mean and deviation of their parameter, so that activations keep their scale. If the map of the
    randomized model is constant, the correlation counts as 0.

    Args:
        progress: one callback for each stage.
    """
    copy, generator = backbone.copy(), torch.Generator().manual_seed(seed)
    correlations = {}
    for stage, layers, report in zip(STAGES, _layers_from_the_top(copy), progress, strict=True):
        for p in layers:
            _redraw(p, generator)
        correlations[stage] = rank_correlation(saliency_map, explainer(copy, inputs, report))
    return correlations


def _layers_from_the_top(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Yield the head's parameters, those of the upper half of the depths, and the rest."""
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
    """Return Spearman's rank correlation over the pixels; 0 if either map is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def max_sensitivity(
    inputs: Tensor,
    saliency_map: Map,
    explainer: Callable[[Tensor], Map],
    seed: int = 0,
) -> float:
    """Return the largest change of the map under :data:`NOISE`, relative to the map, in the Euclidean norm.

    The measure of Yeh et al. 2019, over :data:`NOISY` images. Captum's ``sensitivity_max`` gives the same, but takes a
    second to import; the tests compare both.
    """
    largest = 0.0
    with seeded(seed, inputs.device):
        for _ in range(NOISY):
            noise = torch.empty(inputs.shape).uniform_(-NOISE, NOISE).to(inputs.device)
            change = np.linalg.norm(explainer((inputs + noise).detach()) - saliency_map)
            largest = max(largest, float(change / (np.linalg.norm(saliency_map) or 1.0)))
    return largest


@dataclass(frozen=True)
class Faithfulness:
    """Mean distance of the logit from that of the full image over :data:`SHARES`, in logits.

    Attributes:
        deletion: the most salient pixels are covered with the mean color; higher is better.
        insertion: only the most salient pixels are shown; lower is better.
    """

    deletion: float
    insertion: float

    @property
    def score(self) -> float:
        """Deletion minus insertion; higher is better."""
        return self.deletion - self.insertion


@torch.no_grad()
def faithfulness(
    backbone: Backbone, inputs: Tensor, target: int, saliency_map: Map, *, seed: int = 0, progress: Progress = silent
) -> tuple[Faithfulness, tuple[Faithfulness, ...]]:
    """Return deletion and insertion (Petsiuk et al. 2018) of a map, and of :data:`RANDOM_MAPS` control maps.

    The controls are copies of the map, rotated, flipped and shifted with wrap-around: as smooth and as patchy, but
    elsewhere. Ties between pixels are broken at random. The maps have no sign, so the measure is the distance from the
    full image's logit, not its fall.
    """
    rng = np.random.default_rng(seed)
    maps = [saliency_map, *(_moved_copy(saliency_map, rng) for _ in range(RANDOM_MAPS))]
    orders = [_order(each, rng) for each in maps]
    size = saliency_map.shape
    whole = backbone(inputs)[0, target].double().item()

    def perturbed() -> Iterator[Tensor]:
        """Yield for each order and share the image without its most salient pixels, then with these alone."""
        for order in orders:
            for share in SHARES:
                keep = torch.ones(order.size, dtype=inputs.dtype)
                keep[torch.from_numpy(order[: max(1, round(share * order.size))])] = 0
                keep = keep.view(1, *size).to(inputs.device)
                yield inputs[0] * keep
                yield inputs[0] * (1 - keep)

    total, distances = 2 * len(SHARES) * len(maps), list[float]()
    for batch in _batches(perturbed()):
        progress("deletion and insertion", len(distances), total)
        distances += (backbone(batch)[:, target].double() - whole).abs().tolist()
    progress("deletion and insertion", total, total)
    table = np.array(distances).reshape(len(maps), len(SHARES), 2).mean(1)
    results = [Faithfulness(float(deletion), float(insertion)) for deletion, insertion in table]
    return results[0], tuple(results[1:])


def _moved_copy(saliency_map: Map, rng: np.random.Generator) -> Map:
    """Return the map rotated, perhaps flipped, and shifted with wrap-around by at least :data:`NEAREST`.

    A map that is not square is rotated by 180° alone, so that its shape stays.
    """
    sides = np.array(saliency_map.shape)
    turns = int(rng.integers(4))
    turned = np.rot90(saliency_map, turns if sides[0] == sides[1] else 2 * (turns % 2))
    turned = turned[:, ::-1] if rng.integers(2) else turned
    while True:
        shift = rng.integers(sides[0], size=2) if sides[0] == sides[1] else rng.integers(sides)
        if (np.minimum(shift, sides - shift) >= NEAREST * sides).any():
            return np.roll(turned, tuple(shift), (0, 1))


def _order(saliency_map: Map, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the flat indices of the pixels, most salient first."""
    shuffled = rng.permutation(saliency_map.size)
    return shuffled[np.argsort(-saliency_map.ravel()[shuffled], kind="stable")]


def _batches(images: Iterator[Tensor]) -> Iterator[Tensor]:
    """Stack (3, H, W) images into batches."""
    batch = list[Tensor]()
    for image in images:
        batch.append(image)
        if len(batch) == BATCH:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)

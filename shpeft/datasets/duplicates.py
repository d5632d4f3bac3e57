"""Near duplicates: perceptual hashes, pairs of similar hashes, and their clusters."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from shpeft.support.progress import Progress, silent

HASH_VERSION = 1
"""Version of the perceptual hash. Raise it with every change that changes a hash: the cache is keyed by it."""

SIDE = 16
BITS = SIDE * SIDE
DISTANCE = 15
"""Bits of 256 in which the hashes of near duplicates may differ. On six sets of radiographs, ultrasound, MRI, skin,
retina and histology (420 to 810 images each), 94 to 100 % of copies saved as JPEG of quality 50 at 0.7 of the size are
within it. Of other pairs, none is in four sets, 1 in histology, and 32 of 91,000 in retinas, which look alike."""

BANDS = 16
"""Parts of a hash. Two hashes that differ in fewer bits than there are parts agree in at least one part."""

ORDER = np.random.default_rng(0).permutation(BITS)
"""Each part takes bits from all over the image; otherwise a black border would make the parts of most images equal."""


def look(image: Image.Image) -> np.ndarray:
    """Return a perceptual hash, uint8 (32,): whether each cell of a 16 × 16 grid is brighter than its left neighbor."""
    gray = image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(gray, dtype=np.int16)
    return np.packbits((values[:, 1:] > values[:, :-1]).ravel()[ORDER])


CROWD = 200
"""Rows that agree in a band up to which all pairs of them are compared: the work grows with the square of it."""

NEIGHBORS = 16
"""In a larger crowd, rows that follow in the order of the hashes and are compared."""


def near_pairs(
    looks: np.ndarray,
    distance: int = DISTANCE,
    progress: Progress = silent,
    *,
    homes: Sequence[str] = (),
    crowds: list[int] | None = None,
) -> np.ndarray:
    """Return all pairs of near duplicates, int (M, 2), the lower row first, in ascending order.

    Only pairs that agree in one of the ``BANDS`` are compared; all others differ in more bits than allowed. Flat
    images, whose hash is zero, match nothing. Of more than ``CROWD`` rows that agree in a band, each is compared with
    its ``NEIGHBORS`` in the order of the hashes and with the first row of every split: enough to join copies of one
    image and to notice them in two splits, in a time that grows with the number of rows.

    Args:
        looks: (N, 32) perceptual hashes.
        distance: maximum number of differing bits.
        progress: called often, even if many images agree in a band.
        homes: (N,) the split of each row, if splits are given.
        crowds: receives the number of rows of each crowd.

    Raises:
        ValueError: the distance is so large that pairs could be missed.
    """
    if not 0 <= distance < BANDS:
        raise ValueError(f"The distance must be from 0 to {BANDS - 1}; found {distance}.")
    looks = np.ascontiguousarray(looks)
    lanes, full = looks.view(np.uint64), np.flatnonzero(looks.any(1))
    home = np.unique(np.asarray(homes), return_inverse=True)[1] if len(homes) else np.zeros(len(looks), np.int64)
    pairs = np.empty(0, np.int64)

    def near(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        close = np.bitwise_count(lanes[rows] ^ lanes[others]).sum(1) <= distance
        low, high = np.minimum(rows, others)[close], np.maximum(rows, others)[close]
        keys: np.ndarray = low * len(looks) + high
        return keys

    for number, band in enumerate(looks.view(np.uint16).T):
        order = full[np.lexsort((*lanes[full].T, band[full]))]
        parts, ranks, step = band[order], np.arange(len(order)), 0
        _, run, sizes = np.unique(parts, return_inverse=True, return_counts=True)
        crowded, met = sizes[run] > CROWD, [pairs]
        if crowds is not None:
            crowds.extend(sizes[sizes > CROWD].tolist())
        while len(ranks):  # equal parts are adjacent: compare each row with the next, the one after it, ...
            step += 1
            progress("Looking for images that look the same", number, BANDS)
            ranks = ranks[ranks + step < len(order)]
            ranks = ranks[parts[ranks] == parts[ranks + step]]
            ranks = ranks[~crowded[ranks]] if step > NEIGHBORS else ranks
            met.append(near(order[ranks], order[ranks + step]))
        for split in np.unique(home):
            own = np.flatnonzero(crowded & (home[order] == split))[::-1]
            leader = np.full(len(sizes), -1)
            leader[run[own]] = order[own]  # the first row of each run is assigned last
            members, leaders = order[crowded], leader[run[crowded]]
            known = (leaders >= 0) & (leaders != members)
            met.append(near(members[known], leaders[known]))
        pairs = np.sort(np.concatenate(met))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique hashes, which is slow for such numbers
    return np.stack(np.divmod(pairs, max(1, len(looks))), 1)


def clusters(count: int, pairs: np.ndarray) -> np.ndarray:
    """Return the cluster of each of ``count`` rows, (count,) int: the connected components of the pairs."""
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    return np.asarray(labels)

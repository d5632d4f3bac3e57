"""``details.npz``: the ranking of the best weights, mean scores by attention head, and grids of counts."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shpeft.importance.weight_grid import BudgetGrids
    from shpeft.selection.ranking import Rankings


def details_bytes(
    rankings: "Rankings", heads: "Mapping[str, Mapping[str, NDArray[Any]]]", grids: "Mapping[str, BudgetGrids]"
) -> bytes:
    """Return npz: ``ranking/<which>/...``, ``heads/<which>/<parameter>``, ``fields/<which>``; no name holds a slash."""
    import numpy as np

    arrays: dict[str, Any] = {
        "names": np.array(rankings.names),
        "sizes": np.array([rankings.total, rankings.eligible], np.int64),
        "lam": np.array([np.nan if rankings.lam is None else rankings.lam]),
        "shared": rankings.shared,
    }
    for which, part in rankings.parts.items():
        for name in ("order", "marks", "scores"):
            arrays[f"ranking/{which}/{name}"] = getattr(part, name)
    for which, means in heads.items():
        arrays |= {f"heads/{which}/{name}": values for name, values in means.items()}
    for which, grid in grids.items():  # steps and sizes are the same for all scores
        arrays |= {"steps": grid.steps, "grids": grid.sizes, f"fields/{which}": grid.added}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def parse_rankings(data: bytes) -> "Rankings":
    """Return the rankings that ``details_bytes`` wrote."""
    import numpy as np

    from shpeft.selection.ranking import Ranking, Rankings

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        scores = dict.fromkeys(name.split("/")[1] for name in archive.files if name.startswith("ranking/"))
        parts = {w: Ranking(*(archive[f"ranking/{w}/{n}"] for n in ("order", "marks", "scores"))) for w in scores}
        names = tuple(archive["names"].tolist())
        total, eligible = archive["sizes"].tolist()
        lam, shared = float(archive["lam"][0]), archive["shared"]
    for part in parts.values():
        if part.order.max() >= len(names) or part.marks[-1] != len(part.order) or len(part.marks) != len(part.scores):
            raise ValueError("its rankings do not belong to its parameters")
    return Rankings(names, total, eligible, parts, shared, None if np.isnan(lam) else lam)


def parse_heads(data: bytes, which: str) -> "dict[str, NDArray[np.float64]]":
    """Return the mean scores by attention head of one score that ``details_bytes`` wrote."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        prefix = f"heads/{which}/"
        return {name.removeprefix(prefix): archive[name] for name in archive.files if name.startswith(prefix)}


def parse_grids(data: bytes, which: str) -> "BudgetGrids | None":
    """Return the grids of one score that ``details_bytes`` wrote, or None if there are none."""
    import numpy as np

    from shpeft.importance.weight_grid import BudgetGrids

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        if f"fields/{which}" not in archive.files:
            return None
        grids = BudgetGrids(archive["steps"], archive["grids"], archive[f"fields/{which}"])
        parameters = len(archive["names"])
    expected = (len(grids.steps), grids.sizes.prod(1).sum())
    selected = grids.added.sum(1, dtype=np.int64).cumsum()
    if grids.sizes.shape != (parameters, 2) or grids.added.shape != expected or (selected != grids.steps).any():
        raise ValueError("its grids do not belong to its parameters")
    return grids

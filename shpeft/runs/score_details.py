"""What a run folder holds of its scores besides summaries: the ranking of the best weights, attention heads, grids.

Runs of older versions hold none of it, or no grids.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shpeft.files import write_atomic
from shpeft.runs.trusted import TrustFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shpeft.matrices import Fields
    from shpeft.ranking import Rankings

DETAILS = "details.npz"


class DetailFolder(TrustFolder):
    """Rankings, mean scores by attention head, and grids."""

    def write_details(
        self,
        rankings: "Rankings",
        heads: "Mapping[str, Mapping[str, NDArray[Any]]]",
        fields: "Mapping[str, Fields]",
    ) -> None:
        """Write ``details.npz``.

        Args:
            heads: by score and parameter, the mean scores of each part and head, (parts, heads).
            fields: by score.
        """
        write_atomic(self.path / DETAILS, details_bytes(rankings, heads, fields))

    def rankings(self) -> "Rankings | None":
        """The best weights in order; None where they were not kept."""
        if not (self.path / DETAILS).exists():
            return None
        with self._reading(DETAILS):
            return parse_rankings((self.path / DETAILS).read_bytes())

    def heads(self, which: str = "hybrid") -> "dict[str, NDArray[np.float64]]":
        """Mean scores by part and head of the parameters that heads share; none where they are not known."""
        if not (self.path / DETAILS).exists():
            return {}
        with self._reading(DETAILS):
            return parse_heads((self.path / DETAILS).read_bytes(), which)

    def fields(self, which: str = "hybrid") -> "Fields | None":
        """The grids of all parameters at every step of a budget; None where they were not kept."""
        if not (self.path / DETAILS).exists():
            return None
        with self._reading(DETAILS):
            return parse_fields((self.path / DETAILS).read_bytes(), which)


def details_bytes(
    rankings: "Rankings", heads: "Mapping[str, Mapping[str, NDArray[Any]]]", fields: "Mapping[str, Fields]"
) -> bytes:
    """As npz: ``ranking/<which>/...``, ``heads/<which>/<parameter>``, ``fields/<which>``; no name holds a slash."""
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
    for which, found in fields.items():  # steps and sizes are the same for all scores
        arrays |= {"steps": found.steps, "grids": found.sizes, f"fields/{which}": found.added}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def parse_rankings(data: bytes) -> "Rankings":
    """The rankings that ``details_bytes`` wrote."""
    import numpy as np

    from shpeft.ranking import Ranking, Rankings

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
    """The mean scores by head of one score that ``details_bytes`` wrote."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        prefix = f"heads/{which}/"
        return {name.removeprefix(prefix): archive[name] for name in archive.files if name.startswith(prefix)}


def parse_fields(data: bytes, which: str) -> "Fields | None":
    """The grids of one score that ``details_bytes`` wrote; None where there are none."""
    import numpy as np

    from shpeft.matrices import Fields

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        if f"fields/{which}" not in archive.files:
            return None
        found = Fields(archive["steps"], archive["grids"], archive[f"fields/{which}"])
        parameters = len(archive["names"])
    expected = (len(found.steps), found.sizes.prod(1).sum())
    chosen = found.added.sum(1, dtype=np.int64).cumsum()
    if found.sizes.shape != (parameters, 2) or found.added.shape != expected or (chosen != found.steps).any():
        raise ValueError("its grids do not belong to its parameters")
    return found

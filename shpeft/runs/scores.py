"""The scores that a run folder keeps: selected weights, layer summaries, rankings, attention heads and grids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shpeft.runs.run_file import RunFile
from shpeft.runs.score_details import details_bytes, parse_grids, parse_heads, parse_rankings
from shpeft.runs.summaries import parse_summaries, summaries_bytes
from shpeft.runs.supports import parse_infos, parse_support, support_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shpeft.backbones import WeightInfo
    from shpeft.importance.layer_summaries import LayerSummary
    from shpeft.importance.weight_grid import BudgetGrids
    from shpeft.selection.ranking import Rankings
    from shpeft.selection.top_k import Support

SUPPORT, SUMMARIES, DETAILS = "support.safetensors", "importance.npz", "details.npz"


class ScoreFiles:
    """``support.safetensors``, ``importance.npz`` and ``details.npz`` of a run.

    ``which`` is ``"hybrid"`` for the score of the run, whatever it is called, or one half of a hybrid score:
    ``"task-specific"`` or ``"task-agnostic"``. Every reader raises a RunError if its file is missing or damaged, except
    that runs of older versions have no ``details.npz``, or none with grids.
    """

    def __init__(self, folder: Path) -> None:
        self._support, self._summaries = RunFile(folder, SUPPORT), RunFile(folder, SUMMARIES)
        self._details = RunFile(folder, DETAILS)

    def write_supports(self, supports: "Mapping[str, Support]", infos: "Sequence[WeightInfo]") -> None:
        """Write the selected weights by score, and the eligible weights in the model's order."""
        self._support.write(support_bytes(supports, infos))

    def support(self, which: str = "hybrid") -> "Support":
        """Return the weights that the run selected, or those that one half of the score would select."""
        return self._support.parse(lambda data: parse_support(data, which))

    def weight_infos(self) -> "tuple[WeightInfo, ...]":
        """Return the eligible weights in the model's order; no model is built."""
        return self._support.parse(parse_infos)

    def write_summaries(self, summaries: "Mapping[str, Sequence[LayerSummary]]") -> None:
        """Write the layer summaries by score."""
        self._summaries.write(summaries_bytes(summaries))

    def summaries(self, which: str = "hybrid") -> "list[LayerSummary]":
        """Return a summary of the scores of each eligible parameter, in the model's order."""
        return self._summaries.parse(lambda data: parse_summaries(data, which))

    def write_details(
        self,
        rankings: "Rankings",
        heads: "Mapping[str, Mapping[str, NDArray[Any]]]",
        grids: "Mapping[str, BudgetGrids]",
    ) -> None:
        """Write ``details.npz``.

        Args:
            rankings: the best weights in order.
            heads: by score and parameter, the mean scores of each part and head, (parts, heads).
            grids: by score, the counts of selected weights over a grid of each parameter.
        """
        self._details.write(details_bytes(rankings, heads, grids))

    def rankings(self) -> "Rankings | None":
        """Return the best weights in order, or None in a run of an older version."""
        return self._details.parse_if_exists(parse_rankings)

    def heads(self, which: str = "hybrid") -> "dict[str, NDArray[np.float64]]":
        """Return mean scores by parameter, (parts, heads) each; empty where attention heads are unknown."""
        return self._details.parse_if_exists(lambda data: parse_heads(data, which)) or {}

    def grids(self, which: str = "hybrid") -> "BudgetGrids | None":
        """Return the grids of all parameters at every step of a budget, or None in a run of an older version."""
        return self._details.parse_if_exists(lambda data: parse_grids(data, which))

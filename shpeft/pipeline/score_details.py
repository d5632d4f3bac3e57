"""Summarize scores for a run folder, so that pages can show them without the model."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.config.schema import Spread
from shpeft.importance.attention_heads import attention_heads, mean_by_head
from shpeft.importance.scores import Scores
from shpeft.importance.weight_grid import BudgetGrids
from shpeft.selection.ranking import Rankings, rank_with_grids, score_parts


class ScoreDetails(NamedTuple):
    """What a run folder keeps of its scores besides supports and layer summaries.

    Attributes:
        rankings: the best weights in order.
        heads: by score and parameter, the mean scores of each part and attention head, (parts, heads).
        grids: by score, the counts of selected weights over a grid of each parameter, for every step of a budget.
    """

    rankings: Rankings
    heads: dict[str, dict[str, NDArray[Any]]]
    grids: dict[str, BudgetGrids]


def score_details(backbone: Backbone, scores: Scores, k: int, spread: Spread = "none") -> ScoreDetails:
    """Rank the best weights, average scores by attention head, and count selected weights over grids.

    Args:
        backbone: the model, for the layout of its attention heads.
        scores: the scores to summarize.
        k: the number of selected weights.
        spread: how the weights are spread over rows when they are selected.
    """
    layouts = attention_heads(backbone)
    heads = {
        which: {name: mean_by_head(part.values[name], name, n) for name, n in layouts.items() if name in part.values}
        for which, part in score_parts(scores).items()
    }
    rankings, grids = rank_with_grids(scores, k, layouts, spread=spread)
    return ScoreDetails(rankings, heads, grids)

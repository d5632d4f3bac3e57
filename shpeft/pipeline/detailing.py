"""What a run keeps of its scores so that they can be looked into without the model."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.importance import Scores
from shpeft.matrices import Fields, attention_heads, mean_by_head
from shpeft.ranking import Rankings, rank_inside, score_parts
from shpeft.selection import Spread


class Details(NamedTuple):
    """What a run keeps.

    Attributes:
        rankings: of the best weights.
        heads: by score and parameter, the mean scores of each attention head.
        fields: by score, the grids of all parameters at every step of a budget.
    """

    rankings: Rankings
    heads: dict[str, dict[str, NDArray[Any]]]
    fields: dict[str, Fields]


def detail(backbone: Backbone, scores: Scores, k: int, spread: Spread = "none") -> Details:
    """Look into scores.

    Args:
        k: the budget in use.
        spread: as the weights are selected.
    """
    layouts = attention_heads(backbone)
    heads = {
        which: {name: mean_by_head(part.values[name], name, n) for name, n in layouts.items() if name in part.values}
        for which, part in score_parts(scores).items()
    }
    rankings, fields = rank_inside(scores, k, layouts, spread=spread)
    return Details(rankings, heads, fields)

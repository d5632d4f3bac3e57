"""What a run keeps of its scores so that they can be looked into without the model."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from shpeft.backbones import Backbone
from shpeft.importance import Scores
from shpeft.matrices import attention_heads, mean_by_head
from shpeft.ranking import Rankings, rank_weights, score_parts
from shpeft.selection import Spread


class Details(NamedTuple):
    """The ranking of the best weights and, by score and parameter, the mean scores of each attention head."""

    rankings: Rankings
    heads: dict[str, dict[str, NDArray[Any]]]


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
    return Details(rank_weights(scores, k, spread=spread), heads)

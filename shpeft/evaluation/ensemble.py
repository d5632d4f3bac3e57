"""Several models as one: the mean of their predictions, and how far they disagree."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from shpeft.evaluation.predict import Predictions
from shpeft.tasks import MultiLabel, Regression


def mean_of(members: Sequence[Predictions]) -> Predictions:
    """Return the predictions of several models for the same cases as one: the mean of their probabilities.

    Examples:
        >>> import numpy as np, shpeft
        >>> a, b = (
        ...     shpeft.Predictions(("x",), (0,), ("x",), ("healthy", "ill"), np.array([p]))
        ...     for p in ([1.0, 0.0], [0.5, 0.5])
        ... )
        >>> mean_of([a, b]).probabilities.tolist()
        [[0.75, 0.25]]
    """
    return replace(members[0], probabilities=np.mean([member.probabilities for member in members], axis=0))


def disagreement(members: Sequence[Predictions]) -> float | None:
    """Return how far models disagree, in nats: the mean over cases of H(p̄) − mean over members of H(p).

    It is the mutual information between the member and what it predicts (Houlsby et al., 2011): 0 where all agree, and
    at most the logarithm of their number. With several findings a case it is the mean over findings. None for numbers,
    which have no probabilities.

    Examples:
        >>> import numpy as np, shpeft
        >>> a, b = (
        ...     shpeft.Predictions(("x",), (0,), ("x",), ("healthy", "ill"), np.array([p]))
        ...     for p in ([1.0, 0.0], [0.0, 1.0])
        ... )
        >>> round(disagreement([a, b]), 4), disagreement([a, a])  # ln 2
        (0.6931, 0.0)
    """
    task = members[0].task
    if isinstance(task, Regression):
        return None
    several = isinstance(task, MultiLabel)

    def entropy(p: NDArray[np.float64]) -> float:
        return float((entr(p) + entr(1 - p)).mean() if several else entr(p).sum(1).mean())

    each = [entropy(member.probabilities) for member in members]
    return max(0.0, entropy(mean_of(members).probabilities) - float(np.mean(each)))

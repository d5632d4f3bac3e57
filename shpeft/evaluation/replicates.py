"""Numbers that several runs agree or differ on: mean, standard deviation and interval."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from shpeft.evaluation.predict import Predictions


@dataclass(frozen=True)
class Replicates:
    """A number over several runs.

    Attributes:
        mean: of the runs.
        sd: their standard deviation, with n − 1; NaN for one run.
        low, high: the 95 % t-interval of the mean; NaN for one run.
        runs: n.
    """

    mean: float
    sd: float
    low: float
    high: float
    runs: int


def summarize_replicates(values: Sequence[float]) -> Replicates:
    """Return mean, standard deviation and 95 % t-interval of independent runs.

    Runs on folds share training images, so that their interval is too narrow; the interval of the pooled predictions
    does not have this fault.

    Examples:
        >>> result = summarize_replicates([0.80, 0.84, 0.82])
        >>> f"{result.mean:.2f} ± {result.sd:.2f} [{result.low:.2f}, {result.high:.2f}]"
        '0.82 ± 0.02 [0.77, 0.87]'
    """
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Replicates(mean, float("nan"), float("nan"), float("nan"), n)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5
    return Replicates(mean, sd, mean - half, mean + half, n)


def pool_folds(folds: Sequence[Predictions]) -> Predictions:
    """Return the predictions of the test images of all folds; each case was predicted by a model that never saw it.

    Args:
        folds: of the same classes and of different cases; groups of different folds are different groups.

    Raises:
        ValueError: a case is in two folds, or the classes differ.

    Examples:
        >>> import numpy as np, shpeft
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7]])
        >>> first = shpeft.Predictions(("a", "b"), (0, 1), ("1", "2"), ("healthy", "ill"), p)
        >>> pool_folds([first, shpeft.Predictions(("c", "d"), (0, 1), ("1", "2"), first.classes, p)]).groups
        ('1:1', '1:2', '2:1', '2:2')
    """
    first = folds[0]
    ids = tuple(case for fold in folds for case in fold.ids)
    if len(set(ids)) < len(ids) or any(fold.classes != first.classes for fold in folds):
        raise ValueError("folds must have different cases and the same classes")
    return replace(
        first,
        ids=ids,
        labels=tuple(label for fold in folds for label in fold.labels),
        groups=tuple(f"{number}:{group}" for number, fold in enumerate(folds, start=1) for group in fold.groups),
        probabilities=np.concatenate([fold.probabilities for fold in folds]),
        subgroups=tuple(s for fold in folds for s in fold.subgroups) if all(fold.subgroups for fold in folds) else (),
    )

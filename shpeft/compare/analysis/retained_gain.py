"""The share of full fine-tuning's gain that its k largest changes retain when all others are reverted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shpeft.compare.analysis.bootstrap import Difference, Estimate, mean_difference
from shpeft.compare.analysis.hypotheses import NO, OPEN, PENDING, YES, Verdict
from shpeft.compare.analysis.paired_comparison import Bootstrap
from shpeft.compare.analysis.results import Entry, Results, size
from shpeft.compare.arm import Budget

SMALLEST_GAIN = 1e-3
"""Replicates of the gain are clipped here, since a share of no gain is undefined."""


@dataclass(frozen=True)
class RetainedGain:
    """What a model with only the k largest changes of full fine-tuning retains of its gain.

    Attributes:
        entry: the reverted arm with its budget k.
        full: the fully fine-tuned arm.
        metric: the metric of the reverted model, mean over datasets.
        loss: reverted − full.
        share: the share of full fine-tuning's gain over the baseline; None where full fine-tuning shows no gain.
        complete: whether all cells of the three arms are finished.
    """

    entry: Entry
    full: Entry
    metric: Estimate
    loss: Difference
    share: Estimate | None
    complete: bool

    @property
    def budget(self) -> Budget:
        """The number k of changes, or their share of the backbone's weights."""
        assert self.entry.budget is not None
        return self.entry.budget


def retained_gains(bootstrap: Bootstrap) -> list[RetainedGain]:
    """Compute the retained gain for each budget of the plan's revert arms.

    Datasets count where the reverted arm, full fine-tuning and the baseline have finished cells.
    """
    results = bootstrap.results
    metric = results.metric
    baseline, gains = results.baseline(metric), []
    for entry in results.of_kind("revert"):
        full = Entry(str(results.plan.arms[entry.arm].of), None)
        pairs = {
            dataset: (loss, gain)
            for dataset in results.plan.datasets
            if baseline is not None
            and (loss := bootstrap.difference(entry, full, dataset, metric)) is not None
            and (gain := bootstrap.difference(full, baseline, dataset, metric)) is not None
        }
        if baseline is None or not pairs:
            continue
        loss, gain = (mean_difference([pair[i] for pair in pairs.values()]) for i in (0, 1))
        complete = not any(map(results.pending, (entry, full, baseline)))
        share = _share(loss, gain) if gain.verdict == "better" else None
        gains.append(RetainedGain(entry, full, bootstrap.estimate(entry, metric, pairs), loss, share, complete))
    arms = list(results.plan.arms)
    return sorted(gains, key=lambda g: (arms.index(g.entry.arm), results.typical(g.entry, "trained")))


def retention_verdicts(results: Results, gains: Sequence[RetainedGain]) -> list[Verdict]:
    """Answer the plan's questions of kind ``retains``, for each budget of the arms that they name."""
    by_entry, verdicts = {gain.entry: gain for gain in gains}, []
    several = len({arm.of for arm in results.plan.arms.values() if arm.kind == "revert"}) > 1
    for question in results.questions:
        if question.kind != "retains":
            continue
        percent = f"{100 * question.share:g} %"
        rule = f"yes or no: the 95 % interval of the share lies on one side of {percent}"
        for entry in results.planned:
            arm = results.plan.arms[entry.arm]
            if arm.kind != "revert" or entry.budget is None or question.arm not in (None, entry.arm):
                continue
            full = f"full fine-tuning ({arm.of})" if several else "full fine-tuning"
            changes = size(entry.budget) + (" of weights" if entry.budget < 1 else "")
            text = f"Do the {changes} that {full} changes most retain {percent} of its gain?"
            answer, evidence = _decide(by_entry.get(entry), question.share)
            verdicts.append(Verdict(text, answer, evidence, rule))
    return verdicts


def _decide(gain: RetainedGain | None, share: float) -> tuple[str, str]:
    if gain is None:
        return PENDING, "no cell in common yet"
    answer, evidence = OPEN, "full fine-tuning shows no gain over the baseline that could be retained"
    if gain.share is not None:
        low, high = gain.share.interval()
        answer = YES if low >= share else NO if high < share else OPEN
        evidence = f"{100 * gain.share.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the gain"
    return answer if gain.complete else PENDING, evidence


def _share(loss: Difference, gain: Difference) -> Estimate:
    """Return 1 + loss / gain, with replicates of the gain clipped at :data:`SMALLEST_GAIN`."""
    sign = 1 if gain.larger_is_better else -1
    clipped = np.maximum(sign * gain.replicates, SMALLEST_GAIN)
    return Estimate(1 + loss.value / gain.value, 1 + sign * loss.replicates / clipped)

"""The report's sections on the paper's two claims: sparsity and hybridity."""

from collections.abc import Sequence

import numpy as np

from shpeft.compare.analysis.formatting import format_estimate
from shpeft.compare.analysis.results import Results, size
from shpeft.compare.analysis.retained_gain import RetainedGain, retention_verdicts
from shpeft.compare.analysis.support_agreement import agreement_verdicts
from shpeft.compare.analysis.support_overlap import MagnitudeAgreement, PrecisionAtK, SupportPair, grouped
from shpeft.compare.measures import NONE
from shpeft.compare.report.markdown import table
from shpeft.compare.report.summary import verdict_table
from shpeft.support.formatting import METRIC_TITLES


def sparsity_section(results: Results, gains: Sequence[RetainedGain]) -> str:
    """Write the metric and the retained share of the gain at each k; empty where the plan has no revert arm."""
    verdicts = retention_verdicts(results, gains)
    if not verdicts and not gains:
        return ""
    metric, scale = METRIC_TITLES[results.metric].lower(), results.scale(results.metric)
    several = len({gain.full for gain in gains}) > 1
    rows = [
        [
            *([gain.full.title] if several else []),
            size(gain.budget),
            format_estimate(gain.metric, sign=False, scale=scale),
            format_estimate(gain.loss, scale=scale),
            NONE if gain.share is None else _share(gain),
        ]
        for gain in gains
    ]
    head = [*(["changes of"] if several else []), "k", metric, "minus full fine-tuning", "share of its gain"]
    text = (
        "The k largest changes of full fine-tuning are retained and all others reverted; the fine-tuned head stays. "
        "Share of its gain: of the gain of full fine-tuning over the stronger baseline, mean over datasets, with 95 % "
        "intervals."
    )
    parts = [verdict_table(verdicts) if verdicts else "", text if rows else "", table(head, rows) if rows else ""]
    return "\n\n".join(filter(None, ["## Sparsity: do a few weights decide the result?", *parts]))


def _share(gain: RetainedGain) -> str:
    assert gain.share is not None
    low, high = gain.share.interval()
    return f"{100 * gain.share.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def hybridity_section(results: Results, pairs: Sequence[SupportPair], magnitude: MagnitudeAgreement | None) -> str:
    """Write the overlaps, a row for all pairs of a kind; or how to compute them where the plan asks for them."""
    heading = "## Hybridity: do tasks share key weights?"
    if not pairs:
        hint = "The overlaps that the plan asks for are not computed yet. Run `shpeft compare overlaps`."
        return f"{heading}\n\n{hint}" if results.plan.overlaps.arms else ""
    matrices = list(dict.fromkeys(name for pair in pairs for name in pair.layers))
    rows, layers = [], []
    for title, group in grouped(pairs).items():
        shares, p = [pair.share for pair in group], max(pair.p for pair in group)
        rows.append(
            [
                title,
                len(group),
                f"{np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})",
                f"{np.mean([pair.expected / pair.k for pair in group]):.2g}",
                f"{p:.2g}" if p else "< 1e-300",
                _ratio([counts for pair in group for counts in pair.layers.values()]),
            ]
        )
        by_matrix = [[pair.layers[name] for pair in group if name in pair.layers] for name in matrices]
        layers.append([title, *map(_ratio, by_matrix)])
    head = ["supports", "pairs", "shared", "by chance", "largest p", "ratio to chance within layers"]
    text = (
        f"{table(head, rows)}\n\nShared weights as a fraction of the budget, mean over pairs and range. Chance and p "
        "are those of random supports among all eligible weights (hypergeometric). The last column compares the shared "
        "weights with those of random supports that have the same counts in each layer; by kind of matrix:\n\n"
        f"{table(['supports', *matrices], layers)}"
    )
    verdicts = agreement_verdicts(results.plan.report.questions, pairs, magnitude)
    parts = [verdict_table(verdicts) if verdicts else "", text, "" if magnitude is None else _magnitude(magnitude)]
    return "\n\n".join(filter(None, [heading, *parts]))


def _ratio(counts: list[tuple[int, float]]) -> str:
    """Format how many times as many weights are shared as expected by chance in the same layers."""
    expected = sum(chance for _, chance in counts)
    return f"{sum(shared for shared, _ in counts) / expected:.3g} ×" if expected else NONE


def _magnitude(magnitude: MagnitudeAgreement) -> str:
    rows = [
        [
            budget,
            f"{precision.hits:,} of {precision.chosen:,}",
            f"{100 * precision.share:.2f} %",
            f"{100 * precision.chance:.2g} %",
            f"{magnitude.auroc[budget]:.3f}",
        ]
        for budget, precision in magnitude.precision.items()
    ]
    budgets = list(magnitude.precision)
    layers = [
        [name.removesuffix(".weight"), f"{value:+.3f}", *(_precision(magnitude, budget, name) for budget in budgets)]
        for name, value in magnitude.by_layer.items()
    ]
    head = ["budget", "the consensus' best that are also largest", "precision at k", "by chance", "AUROC"]
    return (
        "### Does magnitude predict the weights that the tasks agree on?\n\nThe consensus is the mean of all tasks' "
        "normalized gradients. Spearman's rank correlation of magnitude with it is "
        f"{magnitude.correlation:+.3f} over all weights.\n\n"
        f"{table(head, rows)}\n\nWithin each layer: the rank correlation, and how many of the weights that the "
        "consensus selects there are among as many of the layer's largest (× chance).\n\n"
        f"{table(['layer', 'rank correlation', *(f'at {budget}' for budget in budgets)], layers)}"
    )


def _precision(magnitude: MagnitudeAgreement, budget: str, name: str) -> str:
    precision: PrecisionAtK | None = magnitude.precision_by_layer[budget].get(name)
    if precision is None:
        return NONE
    ratio = f" ({precision.hits / precision.expected:.2g} ×)" if precision.expected else ""
    return f"{precision.hits:,} of {precision.chosen:,}{ratio}"

"""The paper's two claims, sparsity and hybridity, in Markdown: numbers, and what they answer."""

from collections.abc import Sequence

import numpy as np

from shpeft.compare import claims
from shpeft.compare.answer import asked
from shpeft.compare.claims import Kept, told
from shpeft.compare.markdown import NONE, table
from shpeft.compare.overlaps import Foretold, Pair, Precision, grouped
from shpeft.compare.results import Results, size
from shpeft.runs.card import METRICS


def sparsity_section(results: Results, kept: Sequence[Kept]) -> str:
    """Metric and share of the gain at each k; nothing where the plan reverts nothing."""
    findings = claims.sparsity(results, kept)
    if not findings:
        return ""
    metric = METRICS[results.plan.report.metric].lower()
    several = len({one.full for one in kept}) > 1
    rows = [
        [
            *([one.full.title] if several else []),
            size(one.budget),
            told(one.metric, sign=False),
            told(one.loss),
            NONE if one.share is None else _share(one),
        ]
        for one in kept
    ]
    head = [*(["changes of"] if several else []), "k", metric, "minus full fine-tuning", "share of its gain"]
    text = (
        "Full fine-tuning's k largest changes are kept and all others taken back; the fine-tuned head stays. Share of "
        "the gain: of full fine-tuning over the better floor, means over datasets, with 95 % intervals."
    )
    body = table(head, rows) if rows else ""
    return "\n\n".join(
        filter(None, ["## Sparsity: do a few weights decide the result?", asked(findings), text if rows else "", body])
    )


def _share(one: Kept) -> str:
    assert one.share is not None
    low, high = one.share.interval()
    return f"{100 * one.share.value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def hybridity_section(results: Results, pairs: Sequence[Pair], foretold: Foretold | None) -> str:
    """The overlaps, a row for all pairs of a kind; a sentence where none were computed although the plan asks."""
    if not pairs:
        wanted = "The overlaps that the plan asks for were not computed yet: `shpeft compare overlaps`."
        return f"## Hybridity: do tasks share key weights?\n\n{wanted}" if results.plan.overlaps.arms else ""
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
                _beyond([counts for pair in group for counts in pair.layers.values()]),
            ]
        )
        by_matrix = [[pair.layers[name] for pair in group if name in pair.layers] for name in matrices]
        layers.append([title, *map(_beyond, by_matrix)])
    head = ["choices", "pairs", "shared", "by chance", "largest p", "beyond each layer's own chance"]
    text = (
        f"{table(head, rows)}\n\nShared weights as a fraction of the budget, mean over pairs and their range; chance "
        "and p are those of random choices among all eligible weights (hypergeometric). The last column sets the "
        "shared weights against those of random choices with the same counts in each layer; by kind of matrix:\n\n"
        f"{table(['choices', *matrices], layers)}"
    )
    findings = asked(claims.hybridity(pairs, foretold))
    told = [] if foretold is None else [_foretold(foretold)]
    return "\n\n".join(["## Hybridity: do tasks share key weights?", findings, text, *told])


def _beyond(counts: list[tuple[int, float]]) -> str:
    """How many times as many weights are shared as chance gives in the same layers."""
    expected = sum(chance for _, chance in counts)
    return f"{sum(shared for shared, _ in counts) / expected:.3g} ×" if expected else NONE


def _foretold(found: Foretold) -> str:
    rows = [
        [
            budget,
            f"{of.hits:,} of {of.chosen:,}",
            f"{100 * of.share:.2f} %",
            f"{100 * of.chance:.2g} %",
            f"{found.auroc[budget]:.3f}",
        ]
        for budget, of in found.precision.items()
    ]
    budgets = list(found.precision)
    layers = [
        [name.removesuffix(".weight"), f"{value:+.3f}", *(_precision(found, budget, name) for budget in budgets)]
        for name, value in found.by_layer.items()
    ]
    head = ["budget", "of the consensus' best also largest", "precision at k", "by chance", "AUROC"]
    return (
        "### Does magnitude foretell what the tasks agree on?\n\nThe consensus is the mean of all tasks' normalised "
        f"gradients. Spearman's rank correlation of the magnitude with it: {found.correlation:+.3f} over all weights."
        "\n\n"
        f"{table(head, rows)}\n\nWithin each layer: the rank correlation, and how many of the weights that the "
        "consensus chooses there are among as many of the layer's largest (× what chance gives).\n\n"
        f"{table(['layer', 'rank correlation', *(f'at {budget}' for budget in budgets)], layers)}"
    )


def _precision(found: Foretold, budget: str, name: str) -> str:
    one: Precision | None = found.precision_by_layer[budget].get(name)
    if one is None:
        return NONE
    return f"{one.hits:,} of {one.chosen:,}" + (f" ({one.hits / one.expected:.2g} ×)" if one.expected else "")

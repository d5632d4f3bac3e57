"""Tables and number formats of a report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shpeft.evaluation import Proportion

SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """Table with a caption; the first cell of each row is its header.

    Attributes:
        columns: column headers; empty if each row is a name and a value.
        shares: for each row a number from 0 to 1, drawn as a bar; empty for no bars.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...] = ()


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], shares: Iterable[float] = ()
) -> Table:
    """Return a table with every cell as text."""
    return Table(caption, tuple(columns), tuple(tuple(map(str, row)) for row in rows), tuple(shares))


def percent(p: float) -> str:
    """Format a probability as ``87.3 %``; never as 0 or 100, which would claim certainty."""
    if p >= 0.9995:
        return f">{SPACE}99.9{SPACE}%"
    return f"<{SPACE}0.1{SPACE}%" if p < 0.0005 else f"{100 * p:.1f}{SPACE}%"


def whole(p: float) -> str:
    """Format a share as ``90 %``, for targets and for shares of few cases."""
    return f"{100 * p:.0f}{SPACE}%"


def rate(share: Proportion) -> str:
    """Format a share as ``93.2 % (41 of 44; 95 % interval 81.8 to 97.6 %)``."""
    if not share.cases:
        return "no cases"
    low, high = share.interval
    return (
        f"{100 * share.value:.1f}{SPACE}% ({share.count:,} of {share.cases:,}; 95{SPACE}% interval {100 * low:.1f} to "
        f"{100 * high:.1f}{SPACE}%)"
    )

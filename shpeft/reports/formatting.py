"""Tables of a report, and how its numbers are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shpeft.trust import Proportion

SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Table:
    """Rows under a caption; the first cell of each is its header.

    Attributes:
        columns: the head's words; none where each row is a name and a value.
        shares: for each row a number from 0 to 1 that is drawn as a bar, or nothing.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...] = ()


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], shares: Iterable[float] = ()
) -> Table:
    """A table of words."""
    return Table(caption, tuple(columns), tuple(tuple(map(str, row)) for row in rows), tuple(shares))


def percent(p: float) -> str:
    """``87.3 %``; never 0 or 100, which would say that nothing else can be."""
    if p >= 0.9995:
        return f">{SPACE}99.9{SPACE}%"
    return f"<{SPACE}0.1{SPACE}%" if p < 0.0005 else f"{100 * p:.1f}{SPACE}%"


def whole(p: float) -> str:
    """``90 %``: of shares that were asked for, or that are counts of few."""
    return f"{100 * p:.0f}{SPACE}%"


def rate(found: Proportion) -> str:
    """``93.2 % (41 of 44; 95 % interval 81.8 to 97.6 %)``."""
    if not found.cases:
        return "no cases"
    low, high = found.interval
    return (
        f"{100 * found.value:.1f}{SPACE}% ({found.count:,} of {found.cases:,}; 95{SPACE}% interval {100 * low:.1f} to "
        f"{100 * high:.1f}{SPACE}%)"
    )

"""Which images of a batch each process of a team trains on: the ones whose cached features it has, and equally many."""

from collections.abc import Sequence


def share_sizes(count: int, processes: int) -> list[int]:
    """Return how many of ``count`` images each process takes: as equal as can be, the first ones one more.

    Examples:
        >>> share_sizes(8, 3), share_sizes(2, 3)
        ([3, 3, 2], [1, 1, 0])
    """
    return [count // processes + (rank < count % processes) for rank in range(processes)]


def share_batch(rows: Sequence[int], processes: int, owners: dict[int, int]) -> list[int]:
    """Return which process takes each of these rows of a split.

    Every row goes to its owner, unless that has its share already; then the next process with room takes it. So most
    images come to the same process in every epoch, which has their features cached.

    Args:
        rows: of a batch.
        processes: their number.
        owners: the process of each row so far; a row without one belongs to the process that takes it now.

    Examples:
        >>> owners = {}
        >>> share_batch([4, 6, 3, 8, 1], 2, owners)
        [0, 0, 0, 1, 1]
        >>> share_batch([1, 4, 9, 6], 2, owners)
        [1, 0, 1, 0]
    """
    room = share_sizes(len(rows), processes)
    takers: list[int | None] = []
    for row in rows:
        owner = owners.get(row)
        has_room = owner is not None and room[owner] > 0
        takers.append(owner if has_room else None)
        if owner is not None and has_room:
            room[owner] -= 1
    left = iter([rank for rank, count in enumerate(room) for _ in range(count)])
    shares = [next(left) if taker is None else taker for taker in takers]
    for row, taker in zip(rows, shares, strict=True):
        owners.setdefault(row, taker)
    return shares

"""``shpeft overlap``: how many weights two selections share, and how many chance would."""

import itertools
import sys
from pathlib import Path

from shpeft.cli import options, output
from shpeft.errors import RunError
from shpeft.runs import RunFolder


def overlap(run: Path, /, *others: Path, json: options.Json = False) -> None:
    """Compare the weights that each half of a score selects, and the weights that different runs selected.

    Args:
        run: A run folder.
        others: More run folders.
    """
    from shpeft.pipeline import overlap_between, overlap_within

    folders = [RunFolder.open(path) for path in (run, *others)]
    overlaps = {}
    for folder in folders:
        try:
            overlaps[f"{folder.name}: task-specific and task-agnostic"] = overlap_within(folder)
        except RunError:
            if len(folders) == 1:
                raise
            print(f"The score of {folder.name} has no halves: only its selection is compared.", file=sys.stderr)
    for a, b in itertools.combinations(folders, 2):
        overlaps[f"{a.name} and {b.name}"] = overlap_between(a, b)
    if json:
        output.as_json(overlaps)
        return
    for title, result in overlaps.items():
        output.overlaps(title, result)

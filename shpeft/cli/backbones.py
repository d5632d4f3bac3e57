"""``shpeft backbones``: the pretrained models that can be adapted."""

import sys
from dataclasses import asdict
from itertools import groupby

from shpeft.cli import options, output
from shpeft.support.progress import format_duration

CASES = (600, 200, 200)
"""Training, validation and test images that the listed times refer to."""


def backbones(pattern: str = "", /, *, json: options.Json = False) -> None:
    """List backbones for medical images; with a pattern, every name that contains it, timm's models included.

    Args:
        pattern: A part of the name, or a pattern with *.
    """
    if not pattern:
        _catalog(json)
        return
    from shpeft.backbones import list_backbones

    names = list_backbones(pattern)
    if json:
        output.as_json(names)
        return
    for name in names:
        print(name)
    if not names:
        print(f"No backbone's name contains {pattern!r}.", file=sys.stderr)


def _catalog(json: bool) -> None:
    """Print the catalog, grouped by the images that the models were trained on."""
    from shpeft.backbones import list_backbones
    from shpeft.backbones.catalog import CATALOG
    from shpeft.pipeline import rough_seconds

    seconds = {entry.name: rough_seconds(entry.gmacs, CASES) for entry in CATALOG}
    if json:
        output.as_json([asdict(entry) | {"memory": entry.memory, "seconds": seconds[entry.name]} for entry in CATALOG])
        return
    for modality, group in groupby(CATALOG, lambda entry: entry.modality):
        entries = list(group)
        print(f"Trained on {modality} images" if modality != "general" else "General")
        output.table(
            ["", "weights", "input", "memory", "time", "license", "access"],
            [
                [
                    entry.title + " *" * (not entry.tried),
                    f"{entry.weights / 1e6:,.0f} M",
                    f"{entry.image_size} px",
                    f"{entry.memory / 2**30:.1f} GiB",
                    format_duration(seconds[entry.name]),
                    entry.license,
                    entry.access,
                ]
                for entry in entries
            ],
        )
        for entry in entries:
            print(f"  {entry.title}: {entry.purpose}\n    {entry.command}")
        print()
    print(
        f"Time: a run with the default settings on {sum(CASES):,} images on this machine, scaled from one measured"
        " model.\nMemory: weights and scores; activations come on top.\n"
        "* The published weights could not be downloaded when shpeft was made: their form was tested with random"
        " weights.\n"
        f"{len(list_backbones()) - 1:,} timm models more: shpeft backbones PATTERN. A folder with config.json and"
        " weights: --backbone local-dir:FOLDER."
    )

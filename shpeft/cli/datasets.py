"""``shpeft datasets``: the built-in datasets, and what one dataset holds."""

from typing import Annotated

from cyclopts import Parameter

from shpeft.cli import options, output
from shpeft.config import DatasetConfig

Reading = Annotated[DatasetConfig, Parameter("*", negative_bool="no-", group="Images")]

UNSET = DatasetConfig()

SECONDS = 30.0
"""Time to look for text and markers in the images."""


def datasets(
    source: str | None = None, /, *, reading: Reading = UNSET, seed: int = 0, json: options.Json = False
) -> None:
    """List the built-in datasets, or describe one: its classes, splits, warnings and damaged images.

    For a recipe without a folder: where to get the dataset, its license, the expected layout and its known problems.

    Args:
        source: A dataset to describe; without it, the built-in ones are listed.
        seed: Decides the split.
    """
    from shpeft.datasets import known_sources, load_dataset, recipe_of
    from shpeft.datasets.marked_images import find_marked_images

    if source is None and "source" in reading.model_fields_set:
        source = reading.source
    if source is None:
        sources = known_sources()
        if json:
            output.as_json(sources)
            return
        for entry in sources:
            print(f"{entry['source'] + '=FOLDER' * (entry['kind'] == 'recipe'):28} {entry['title']}")
        print(f"{'FOLDER':28} your own images: FOLDER/train/CLASS/*, FOLDER/test/CLASS/*, or FOLDER/CLASS/*")
        return
    if (recipe := recipe_of(source)) is not None and "=" not in source:
        if json:
            output.as_json(recipe.facts())
        else:
            print(recipe.explain())
        return
    settings = reading.model_dump() | {"source": source}
    with output.progress_bar() as (progress, _):
        data = load_dataset(**settings, seed=seed, progress=progress)
        marked = find_marked_images(data.train, seconds=SECONDS, progress=progress)
    card = data.card | {"marked": marked.to_dict()}
    if json:
        output.as_json(card)
    else:
        output.card(card)

"""Public sets that clinicians know, read as they are unpacked: ``recipe:NAME=FOLDER``."""

from typing import Any

from shpeft.datasets.public_sets.catalog import RECIPES
from shpeft.datasets.public_sets.recipe import Recipe
from shpeft.errors import DatasetError, did_you_mean

__all__ = ["Recipe", "find", "known", "parse"]


def known() -> list[dict[str, Any]]:
    """For listing."""
    return [
        {
            "source": recipe.source,
            "title": recipe.title,
            "kind": "recipe",
            "modality": recipe.modality,
            "classes": list(recipe.classes),
        }
        for recipe in RECIPES
    ]


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        DatasetError: there is none.
    """
    by_name = {recipe.name: recipe for recipe in RECIPES}
    if name not in by_name:
        raise DatasetError(f"There is no recipe '{name}'. {did_you_mean(name, by_name)}")
    return by_name[name]


def parse(spec: str) -> tuple[Recipe, str]:
    """``NAME=FOLDER`` as a recipe and the folder of its unpacked download.

    Raises:
        DatasetError: there is no such recipe, or no folder is named.
    """
    name, _, folder = spec.partition("=")
    recipe = find(name.strip())
    if not folder.strip():
        raise DatasetError(
            f"'{recipe.source}' needs the folder of the unpacked download: {recipe.source}=FOLDER. Get the set from "
            f"{recipe.page}; 'shpeft datasets {recipe.source}' tells its layout and license."
        )
    return recipe, folder.strip()

"""Datasets of a diagnosis task, from folders, tables, public sets or generated: three splits and a card."""

from shpeft.datasets.background_load import BackgroundLoad
from shpeft.datasets.base import Dataset, Split
from shpeft.datasets.pixel_batches import batches
from shpeft.datasets.sources import known_sources, load_dataset, recipe_of

__all__ = ["Dataset", "BackgroundLoad", "Split", "batches", "known_sources", "load_dataset", "recipe_of"]

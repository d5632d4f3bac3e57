"""Images of a diagnosis task, from a folder, from MedMNIST or generated: train, val, test and a card."""

from shpeft.datasets.base import Dataset, Split
from shpeft.datasets.loading import batches
from shpeft.datasets.opening import Opening
from shpeft.datasets.sources import known_sources, load_dataset, recipe_of

__all__ = ["Dataset", "Opening", "Split", "batches", "known_sources", "load_dataset", "recipe_of"]

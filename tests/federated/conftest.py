"""Sites of one process, with the images of a phantom shared out among them."""

from collections.abc import Sequence
from dataclasses import replace

from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset
from shpeft.pipeline.federated import LocalSites, Site
from tests.pipeline.conftest import tiny

CONFIG = tiny(training={"epochs": 2, "batch_size": 8, "lr": 0.01}, selection={"budget": 40, "images": 64})


def share(data: Dataset, number: int, sites: int) -> Dataset:
    """Return the training images of one of several sites; validation and test images are everybody's."""
    return only(data, range(number, len(data.train), sites))


def only(data: Dataset, rows: Sequence[int]) -> Dataset:
    return replace(data, train=data.train.subset(list(rows)))


def local(data: dict[str, Dataset], config: RunConfig = CONFIG) -> LocalSites:
    return LocalSites({name: Site(config, data=part) for name, part in data.items()})

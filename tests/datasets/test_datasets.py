import pickle
from typing import Any

import numpy as np
import pytest
import torch

from shpeft.datasets import batches, known_sources, load_dataset, pixel_batches
from shpeft.datasets.pixel_batches import PixelCache
from shpeft.errors import Cancelled, DatasetError
from shpeft.images import InputTransform

TRANSFORM = InputTransform(16, (0.5,) * 3, (0.25,) * 3)
SMALL = "phantom:fundus?n=36&size=32"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch) -> PixelCache:
    monkeypatch.setattr(pixel_batches, "CACHE", PixelCache())
    return pixel_batches.CACHE


@pytest.fixture
def split() -> Any:
    return load_dataset(SMALL).train


def test_batches_yield_every_case_once_in_order(split: Any) -> None:
    collected = list(batches(split, TRANSFORM, 8))
    assert [len(labels) for _, labels in collected] == [8, 8, 2]
    assert torch.cat([labels for _, labels in collected]).tolist() == list(split.labels)
    images = torch.cat([images for images, _ in collected])
    assert images.dtype == torch.uint8
    assert all(torch.equal(images[row], TRANSFORM.pixels(split.image(row))) for row in range(len(split)))


def test_batches_follow_an_order(split: Any) -> None:
    order = [5, 0, 5, 7]
    images, labels = (torch.cat(part) for part in zip(*batches(split, TRANSFORM, 3, order=order), strict=True))
    assert labels.tolist() == [split.labels[row] for row in order]
    assert torch.equal(images[0], images[2])
    assert list(batches(split, TRANSFORM, 3, order=[])) == []


def test_pixels_are_decoded_once(split: Any, own_cache: PixelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    first = torch.cat([images for images, _ in batches(split, TRANSFORM, 8)])
    assert len(own_cache) == len(split)
    monkeypatch.setattr(type(split.source.store), "image", lambda *_: pytest.fail("decoded again"))
    again = torch.cat([images for images, _ in batches(split.subset(range(len(split))), TRANSFORM, 8)])
    assert torch.equal(first, again)


def test_batches_report_and_can_be_cancelled(split: Any) -> None:
    seen = []
    list(batches(split, TRANSFORM, 8, progress=lambda *call: seen.append(call)))
    assert [done for _, done, _ in seen] == [8, 16, 18]
    assert {total for _, _, total in seen} == {18}

    def stop(*_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        list(batches(split, TRANSFORM, 8, progress=stop))


def test_the_cache_evicts_the_least_recently_used() -> None:
    cache = PixelCache(limit=30)
    for name in "abc":
        cache.put((name, TRANSFORM), torch.zeros(10, dtype=torch.uint8))
    assert cache.get(("a", TRANSFORM)) is not None
    cache.put(("d", TRANSFORM), torch.zeros(10, dtype=torch.uint8))
    assert [name for name in "abcd" if cache.get((name, TRANSFORM)) is None] == ["b"]
    cache.put(("huge", TRANSFORM), torch.zeros(31, dtype=torch.uint8))
    assert (len(cache), cache.size) == (3, 30)


def test_subsets_of_subsets_stay_aligned(split: Any) -> None:
    part = split.subset([9, 4, 2]).subset([2, 0], "val")
    assert (part.name, part.labels) == ("val", (split.labels[2], split.labels[9]))
    assert part.ids == (split.ids[2], split.ids[9])
    assert part.image(0).tobytes() == split.image(2).tobytes()
    assert np.array_equal(part.mask(1), split.mask(9))


def test_counts_and_fingerprints(split: Any) -> None:
    assert sum(split.counts().values()) == len(split)
    assert list(split.counts()) == list(split.classes)
    prints = {part.fingerprint for part in (split, split.subset([0, 1]), split.subset([1, 0]))}
    assert len(prints) == 3
    assert split.subset(range(len(split))).fingerprint == split.fingerprint


def test_a_dataset_survives_pickling() -> None:
    data = load_dataset(SMALL)
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint == data.fingerprint
    assert again.test.image(3).tobytes() == data.test.image(3).tobytes()


def test_known_sources_can_be_listed() -> None:
    entries = known_sources()
    assert {"phantom:fundus", "phantom:ultrasound", "medmnist:breastmnist"} <= {entry["source"] for entry in entries}
    assert all(set(entry) == {"source", "title", "kind", "modality", "classes"} for entry in entries)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("phantom:fundsu", "Did you mean phantom:fundus"),
        ("phantom:fundus?color=1", "no option 'color'"),
        ("phantom:fundus?n=many", "n is a whole number from 12 to 100000; found 'many'"),
        ("phantom:fundus?shortcut=nan", "from 0 to 1"),
        ("phantoms:fundus", "Did you mean phantom:fundus"),
        ("/no/such/folder", "no such folder"),
        ("", "No dataset is named"),
        ("x" * 5000, "cannot be read"),
        ("medmnist:brestmnist", "Did you mean breastmnist"),
        ("medmnist:breastmnist@32", "28, 64, 128, 224"),
    ],
)
def test_faulty_sources_are_explained(source: str, sentence: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(source)
    assert sentence in str(caught.value)


def test_fractions_are_checked() -> None:
    with pytest.raises(DatasetError, match=r"val_fraction is 1\.0"):
        load_dataset(SMALL, val_fraction=1.0)

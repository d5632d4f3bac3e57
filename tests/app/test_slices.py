"""Slices of a series have addresses for the viewer, which end with the session that holds them."""

import gc

from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import slices
from shpeft.errors import UnreadableImage


def read(number: int) -> bytes:
    if number == 2:
        raise UnreadableImage("The file is damaged.")
    return b"slice %d" % number


def test_slices_are_fetched_as_long_as_somebody_holds_them() -> None:
    client = TestClient(Starlette(routes=[slices.ROUTE]))
    published = slices.publish(read, 3)
    response = client.get(f"{published.address}1")
    assert (response.content, response.headers["cache-control"]) == (b"slice 1", "no-store")
    assert client.get(f"{published.address}2").status_code == 422
    assert client.get(f"{published.address}2").text == "The file is damaged."
    for missing in ("3", "-1", "a", ""):
        assert client.get(f"{published.address}{missing}").status_code == 404
    assert client.get("/slices/other/1").status_code == 404
    address = published.address
    del published
    gc.collect()
    assert client.get(f"{address}1").status_code == 404


def test_every_address_is_another_one() -> None:
    assert slices.publish(read, 3).token != slices.publish(read, 3).token

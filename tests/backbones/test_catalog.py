"""The catalog of backbones agrees with the models and with timm's own records."""

from typing import Any

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from shpeft.backbones.catalog import CATALOG, CatalogEntry, entry_of, recommended

TIMM = [entry for entry in CATALOG if "." in entry.name and not entry.name.startswith("hf-hub:")]
SMALL = [entry for entry in TIMM if entry.weights < 30e6]


def test_every_entry_can_be_named_and_looked_up() -> None:
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert all(entry_of(entry.name) is entry for entry in CATALOG)
    assert entry_of("nothing") is None
    assert 6 <= len(recommended()) <= 8
    assert recommended()[0].access == "bundled"


@pytest.mark.parametrize("entry", TIMM, ids=lambda entry: entry.name)
def test_licenses_are_those_that_timm_records(entry: CatalogEntry) -> None:
    config = timm.get_pretrained_cfg(entry.name)
    assert config is not None
    license_name = entry.license.lower().replace(" ", "-")
    assert license_name == config.license


@pytest.mark.parametrize("entry", SMALL, ids=lambda entry: entry.name)
def test_sizes_and_multiply_adds_are_measured(entry: CatalogEntry) -> None:
    size: dict[str, Any] = (
        {"img_size": entry.image_size} if timm.get_pretrained_cfg_value(entry.name, "fixed_input_size") else {}
    )
    with torch.device("meta"):
        module = timm.create_model(entry.name, num_classes=0, **size).eval()
        image = torch.zeros(1, 3, entry.image_size, entry.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    assert sum(p.numel() for p in module.parameters()) == entry.weights
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gmacs, abs=0.06)


def test_a_command_line_names_the_arguments() -> None:
    entry = entry_of("hf-hub:MahmoodLab/UNI")
    assert entry is not None
    assert entry.command == "--backbone hf-hub:MahmoodLab/UNI --model-arg init_values=1e-05 --image-size 224"

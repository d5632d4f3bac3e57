"""What a budget would select, before any training."""

import time

import pytest

from shpeft import pipeline
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder
from tests.helpers.run_metrics import metrics_of
from tests.pipeline.conftest import tiny


def test_a_preview_equals_the_selection_of_the_run(finished: RunFolder) -> None:
    config, weights = finished.config, metrics_of(finished)["weights"]
    begin = time.monotonic()
    preview = pipeline.preview_selection(config, classes=3)
    assert time.monotonic() - begin < 5
    for name in ("selected", "eligible", "backbone", "head", "share", "share_with_head"):
        assert getattr(preview, name) == weights[name], name
    assert weights["delta_bytes"] <= preview.delta_bytes <= 3 * weights["delta_bytes"]
    with pytest.raises(ShpeftError, match="more than"):
        pipeline.preview_selection(tiny(selection={"budget": preview.eligible + 1}))

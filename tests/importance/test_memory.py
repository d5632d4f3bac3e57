"""Scoring and selection hold at most three times the model's size: the weights and both halves of a hybrid."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import torch
from pathlib import Path
from shpeft.backbones import create_backbone
from shpeft.importance.scores import estimate_importance
from shpeft.selection.top_k import select
from tests.conftest import CLASSES, stripes

def resident(field):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith(field)).split()[1])

def model():
    arguments = {"depth": 6}
    return create_backbone(
        "vit_base_patch16_224", classes=CLASSES, weights="random", image_size=32, model_args=arguments
    )

split = stripes(0, 4, "train")
warm = create_backbone("test_vit", classes=CLASSES, weights="random", image_size=32)
select(estimate_importance(warm, split, "hybrid", batch_size=4), 1e-4)
before = resident("VmRSS")
backbone = model()
size = 4 * backbone.weight_count
Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the model
scores = estimate_importance(backbone, split, "hybrid", batch_size=4)
select(scores, 1e-4)
print((resident("VmHWM") - before) / 2**20, size / 2**20)
"""


@pytest.mark.slow
def test_scoring_holds_three_times_the_model() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process's memory is read from Linux's /proc")
    root = Path(__file__).parents[2]
    # Freed blocks return to the system at once, so that the peak is what is held and not what the allocator hoards.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    process = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    peak, size = map(float, process.stdout.split())
    assert size > 150
    assert peak < 3 * size + 48  # one layer's gradient and scores, and what selection compares at a time

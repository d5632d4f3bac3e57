"""Many diagnoses in one process: memory stays flat."""

import gc
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.reliability.figures import record
from tests.reliability.processes import FULL, _memory, ran

DIAGNOSES = 500
MOST_KIB = 40.0
"""Growth for each diagnosis that would be a leak: an image of 96 × 96 in RGB has 27 KiB."""

EXAMPLE = Path(__file__).resolve().parents[2] / "assets" / "example"


def diagnose_often(count: int, report: Path) -> None:
    """Diagnose images of many sizes, each with a map now and then; write the memory after each, in MiB."""
    from shpeft.diagnosis import diagnose
    from shpeft.pipeline import load_run
    from shpeft.runs import RunFolder

    loaded, rng, used = load_run(RunFolder.open(EXAMPLE), "cpu"), np.random.default_rng(0), []
    for number in range(count):
        image = rng.integers(0, 255, (int(rng.integers(40, 400)), int(rng.integers(40, 400)), 3), dtype=np.uint8)
        method = "legrad" if number % 25 == 24 else None
        diagnose(
            loaded.backbone,
            image,
            method=method,
            reliability=loaded.reliability,
            ood_detector=loaded.ood_detector,
        )
        if number % 10 == 9:
            gc.collect()
        used.append(_memory("VmRSS"))
    report.write_text(json.dumps(used))


@pytest.mark.skipif(not FULL, reason="make reliability runs it")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux does")
@pytest.mark.timeout(600)
def test_memory_stays_flat_over_many_diagnoses(tmp_path: Path) -> None:
    outcome = ran(
        diagnose_often, DIAGNOSES, tmp_path / "used", report=tmp_path / "report", seconds=500, mebibytes=20_000
    )
    assert outcome.kind == "done", outcome.message
    used = json.loads((tmp_path / "used").read_text())
    later = np.array(used[len(used) // 5 :])  # buffers are allocated at first
    slope = float(np.polyfit(np.arange(len(later)), later, 1)[0]) * 1024
    record("memory", diagnoses=DIAGNOSES, kib_per_diagnosis=round(slope, 2), mib_at_the_end=round(used[-1]))
    assert slope < MOST_KIB

"""The readers under atheris, which looks for bytes that reach new lines; part of `make reliability`."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.figures import record
from tests.reliability.processes import FULL
from tests.reliability.targets import TARGETS

SECONDS = 20
"""Time for each reader."""

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(not FULL, reason="fuzzing takes minutes: make reliability"),
    pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", TARGETS)
def test_no_bytes_make_a_fault(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.reliability.fuzzer", kind, str(SECONDS), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert executed is not None, done.stderr[-4000:]
    record("fuzzing", kind=kind, files=int(executed[1]))

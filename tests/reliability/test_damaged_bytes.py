"""Valid files with damaged bytes: every reader reads them or refuses them in a sentence; anything else is a fault."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability.figures import record
from tests.reliability.processes import FULL
from tests.reliability.targets import TARGETS

EXAMPLES = 600 if FULL else 8
"""Damaged files for each kind."""


@st.composite
def damage(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return the bytes with one to four damages, more often near the beginning, where headers are."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), 300 if near else len(data)) - 1)))
        match draw(st.sampled_from(["set", "insert", "cut", "repeat", "number", "drop"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case "number":
                size = draw(st.sampled_from([1, 2, 4, 8]))
                data[at : at + size] = draw(st.sampled_from([b"\xff", b"\x00", b"\x7f", b"\x80"])) * size
            case "drop":
                del data[at : at + draw(st.integers(1, 16))]
    return bytes(data)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TARGETS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    target = TARGETS[kind]
    counts = {"read": 0, "refused": 0}

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damage(target.seed()))
    def attack(data: bytes) -> None:
        counts["read" if target.is_read(data, tmp_path) else "refused"] += 1

    attack()
    record("damaged bytes", kind=kind, files=sum(counts.values()), **counts)

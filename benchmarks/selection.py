"""Select the k most important of many weights: shpeft's exact selection against ``torch.topk``, time and memory.

(A file ``select.py`` would hide Python's own module ``select``.)
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch
from harness import arguments, interleaved, publish, table

from shpeft.backbones import WeightInfo
from shpeft.importance.scores import Scores
from shpeft.selection.top_k import select

SHARES = (1e-4, 1e-2)
MATRIX = (3072, 768)
"""The shape of each matrix: ViT-B's fc1."""


def random_scores(count: int) -> tuple[torch.Tensor, Scores]:
    """Return a flat vector of at least ``count`` scores, and a view of it as the matrices of a backbone."""
    numel = MATRIX[0] * MATRIX[1]
    matrices = -(-count // numel)
    flat = torch.rand(matrices * numel, generator=torch.Generator().manual_seed(0))
    values = {f"blocks.{i}.weight": part.view(MATRIX) for i, part in enumerate(flat.split(numel))}
    infos = tuple(WeightInfo(name, MATRIX, numel, i, f"blocks.{i}", "weight", True) for i, name in enumerate(values))
    return flat, Scores("random", values, infos, flat.numel())


def extra_bytes(call: Callable[[], object]) -> int | None:
    """Measure how far a call raises this process's resident memory; None where the system does not report it."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return None

    def field(name: str) -> int:
        match = re.search(rf"{name}:\s+(\d+) kB", status.read_text())
        assert match is not None
        return 1024 * int(match[1])

    ctypes.CDLL(None).malloc_trim(0)  # reuse of memory freed earlier would not be measured
    refs.write_text("5")  # reset the peak
    before = field("VmRSS")
    call()
    return max(0, field("VmHWM") - before)


def measure(count: int, repeats: int) -> str:
    """Return the section's text."""
    flat, scores = random_scores(count)
    rows = []
    for share in SHARES:
        support = select(scores, share)
        k, numel = support.k, MATRIX[0] * MATRIX[1]

        def ours(share: float = share) -> torch.Tensor:
            return torch.cat(list(select(scores, share).indices.values()))

        def theirs(k: int = k) -> torch.Tensor:
            return torch.topk(flat, k, sorted=False).indices

        chosen = torch.cat(
            [info.depth * numel + support.indices[info.name] for info in scores.infos if info.name in support.indices]
        )
        smallest = flat[theirs()].min()
        if len(chosen) != k or not bool((flat[chosen] >= smallest).all()):
            raise SystemExit("The selection is not the k largest, so its time is meaningless.")
        memory = {"torch.topk": extra_bytes(theirs), "ours": extra_bytes(ours)}
        timings = interleaved({"torch.topk": theirs, "ours": ours}, repeats)
        base = timings["torch.topk"].median
        rows += [
            [
                f"{name}, {100 * share:g} % ({k:,})",
                f"{timings[name].median:.3f}",
                f"{timings[name].median / base:.3f}",
                "–" if (extra := memory[name]) is None else f"{extra / 2**20:,.1f} MiB",
            ]
            for name in timings
        ]
    header = ("selection", "seconds", "× torch.topk", "extra memory")
    return (
        f"{flat.numel():,} random float32 scores in matrices of {MATRIX[0]} × {MATRIX[1]}; {repeats} turns, medians. "
        "Checked before timing: exactly k, none below torch.topk's smallest. Extra memory: the rise of the process's "
        "resident memory during a call. torch.topk does not specify which of equal scores it selects; ours selects the "
        "lower index.\n\n" + table(header, rows)
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=86_000_000, help="smallest number of scores")
    options = parser.parse_args()
    publish("Choosing the weights", measure(options.count, options.repeats), options.write)


if __name__ == "__main__":
    main()

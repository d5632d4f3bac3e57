"""What two machines exchange in a step, over a link of limited rate: our k values and head, LoRA, and the whole model.

The link is the loopback of a network namespace of its own, limited by ``tc``; that needs Linux, iproute2 and the right
to make namespaces (root, or ``unshare --map-root-user``). Both directions share the loopback: it has twice the rate.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import torch
from harness import arguments, publish, table

RATES = {"100 Mbit/s": 100e6, "1 Gbit/s": 1e9, "10 Gbit/s": 10e9}
"""Bits a second in each direction."""

MEASURED = ("100 Mbit/s", "1 Gbit/s")
"""The rates that a loopback reaches with packets of an Ethernet."""

CLASSES = 2

MODELS = {  # weights, width, blocks
    "ViT-S": (22_000_000, 384, 12),
    "ViT-B": (86_000_000, 768, 12),
    "ViT-L": (303_000_000, 1024, 24),
    "ViT-g": (1_136_000_000, 1536, 40),
}

SHARES = (1e-4, 1e-3, 1e-2)

RANK = 8
"""Of LoRA on the qkv matrix of every block."""


def exchanged(weights: int, width: int, blocks: int) -> dict[str, int]:
    """Return how many float32 numbers a step exchanges by each method, with head, loss and stop."""
    head = CLASSES * (width + 1) + 2
    ours = {f"{share:.2%}": round(share * weights) + head for share in SHARES}
    return ours | {f"LoRA r{RANK} on qkv": RANK * (width + 3 * width) * blocks + head, "all weights": weights + head}


def on_paper(numbers: int, rate: float) -> float:
    """Return the seconds that an all-reduce of two machines takes at least: each sends all its numbers once."""
    return 4 * 8 * numbers / rate


def readable(seconds: float) -> str:
    """Return seconds in a readable unit."""
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def measure(sizes: list[int], repeats: int) -> list[float]:
    """Return the median seconds of an all-reduce of each size by two gloo processes on the loopback."""
    from torch.distributed import HashStore, ProcessGroupGloo  # type: ignore[attr-defined]

    store = HashStore()

    def member(rank: int) -> list[float]:
        group = ProcessGroupGloo(store, rank, 2, timedelta(minutes=10))
        medians = []
        for size in sizes:
            tensor, seconds = torch.ones(size), []
            for _ in range(1 + repeats):
                group.barrier().wait()
                began = time.perf_counter()
                group.allreduce([tensor]).wait()
                seconds.append(time.perf_counter() - began)
            medians.append(statistics.median(seconds[1:]))
        return medians

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(member, rank) for rank in range(2))
        return [max(pair) for pair in zip(first.result(), second.result(), strict=True)]


def over_link(rate: float, sizes: list[int], repeats: int) -> list[float]:
    """Measure in a network namespace whose loopback has twice this rate."""
    limit = (
        f"tc qdisc add dev lo root tbf rate {round(2 * rate)}bit burst {max(5_000, round(rate / 40_000))} latency 1s"
    )
    script = f'ip link set lo mtu 1500 up && {limit} && exec "$@"'
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    inner = [sys.executable, __file__, "--inside", json.dumps(sizes), "--repeats", str(repeats)]
    command = ["unshare", "--net", *own, "sh", "-c", script, "link", *inner]
    process = subprocess.run(command, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"}, stdout=subprocess.PIPE, check=True)
    seconds: list[float] = json.loads(process.stdout)
    return seconds


def _measured(model: str, repeats: int) -> str:
    methods = exchanged(*MODELS[model])
    seconds = {rate: over_link(RATES[rate], list(methods.values()), repeats) for rate in MEASURED}
    rows: list[list[object]] = []
    for position, (method, numbers) in enumerate(methods.items()):
        cells = [
            f"{readable(seconds[rate][position])} ({readable(on_paper(numbers, RATES[rate]))})" for rate in MEASURED
        ]
        rows.append([method, f"{4 * numbers / 1024:,.0f} KiB", *cells])
    title = f"One all-reduce of two machines, {model}, median of {repeats}; in brackets the least time on paper."
    return f"{title}\n\n{table(('trained', 'bytes a step', *MEASURED), rows)}\n\n"


def main() -> None:
    """Print both tables: measured for ViT-S, and on paper for all models."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--inside", help="measure these sizes here (how the benchmark calls itself)")
    parser.add_argument("--paper", action="store_true", help="measure nothing")
    parser.add_argument("--model", choices=MODELS, default="ViT-S", help="whose exchange is measured")
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(json.loads(options.inside), options.repeats)))
        return
    body = "" if options.paper else _measured(options.model, options.repeats)
    paper = [
        [
            f"{model}, {method}",
            f"{4 * numbers / 1024:,.0f} KiB",
            *(readable(on_paper(numbers, r)) for r in RATES.values()),
        ]
        for model, shape in MODELS.items()
        for method, numbers in exchanged(*shape).items()
    ]
    body += "On paper, every model, two machines:\n\n" + table(("trained", "bytes a step", *RATES), paper)
    publish("The exchange of a step", body, options.write)


if __name__ == "__main__":
    main()

"""How long a start, the first page and a training step take, beside another checkout: is the common path slower?

``python benchmarks/versions.py OTHER`` starts both by turns, so that other work on the computer slows both. A ratio is
of two neighbors. Processor time counts this work alone, and the clock also waiting.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from harness import arguments, publish, table

HERE = Path(__file__).resolve().parents[1]
STEPS_A_TURN = 5

PAGE = """
import os, sys, time, tomllib
from pathlib import Path
from streamlit import config
from streamlit.testing.v1 import AppTest
app = Path(sys.argv[1]) / "app"
sys.path.insert(0, str(app))
file = next(p for p in (app / ".streamlit" / "config.toml", app.parent / "streamlit_config.toml") if p.exists())
for section, values in tomllib.loads(file.read_text()).items():
    for key, value in values.items():
        if not isinstance(value, dict):
            config.set_option(f"{section}.{key}", value)
page = AppTest.from_file(str(next(p for p in (app / "pages.py", app / "main.py") if p.exists())), default_timeout=300)
page.run()
if sys.argv[2] == "train" and (app / "pages.py").exists():
    page.switch_page("views/train/page.py").run()
assert not page.exception and (page.title or page.header or page.markdown), page
print(time.process_time(), time.monotonic(), flush=True)
os._exit(0)  # not the time of threads that go on
"""

STEP = """
import sys, time
sys.path.insert(0, sys.argv[1] + "/benchmarks")
from arms import Work, ours
import torch
torch.set_num_threads(1)
work = Work.of("vit_tiny_patch16_224", 8, source="phantom:ultrasound?n=60&size=64", image_size=112)
arm = ours(1e-4)(work)
for _ in range(5):
    arm.step()
print("ready", flush=True)
for line in sys.stdin:
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        arm.step()
    print(time.process_time() - processor, time.perf_counter() - clock, flush=True)
"""

Times = tuple[float, float]
"""Seconds of processor time, and by the clock."""


def environment(tree: Path, folder: Path) -> dict[str, str]:
    """Return the variables of a child that imports this checkout."""
    own = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "SHPEFT_RUNS": str(folder), "SHPEFT_CACHE": "off"}
    return os.environ | own


def command(tree: Path, folder: Path, *arguments: str) -> Times:
    """Return the times of a command to its end."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, *arguments], env=environment(tree, folder), cwd=folder, stdout=-3)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, arguments
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


def page(tree: Path, folder: Path, name: str) -> Times:
    """Return the times from the start of a process until its script has drawn a page."""
    began = time.monotonic()
    arguments = [sys.executable, "-c", PAGE, str(tree), name]
    text = subprocess.run(arguments, env=environment(tree, folder), cwd=folder, capture_output=True, check=True).stdout
    processor, end = map(float, text.split()[-2:])
    return processor, end - began


def server(tree: Path, folder: Path) -> Times:
    """Return the times from ``shpeft ui`` until the server answers its health check."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    arguments = [sys.executable, "-m", "shpeft", "ui", "--port", str(port)]
    child = subprocess.Popen(arguments, env=environment(tree, folder), cwd=folder, stdout=-3, stderr=-3)
    try:
        while True:
            assert child.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.02)
        seconds = time.monotonic() - began
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), seconds
    finally:
        child.kill()
        child.wait()


def stepper(tree: Path, folder: Path) -> Callable[[], Times]:
    """Return a function that runs a few training steps in a child that stays."""
    arguments = [sys.executable, "-c", STEP, str(tree)]
    child = subprocess.Popen(
        arguments, env=environment(tree, folder), cwd=folder, stdin=-1, stdout=-1, stderr=-3, text=True
    )
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None
    assert stdout.readline().strip() == "ready"

    def steps() -> Times:
        stdin.write(f"{STEPS_A_TURN}\n")
        stdin.flush()
        processor, clock = map(float, stdout.readline().split())
        return processor / STEPS_A_TURN, clock / STEPS_A_TURN

    return steps


Measure = Callable[[Path, Path], Callable[[], Times]]
"""Takes a checkout and an empty folder; returns what measures once."""

MEASURES: dict[str, tuple[str, Measure]] = {
    "help": ("`shpeft --help`", lambda tree, folder: lambda: command(tree, folder, "-m", "shpeft", "--help")),
    "server": ("`shpeft ui` until it answers", lambda tree, folder: lambda: server(tree, folder)),
    "page": ("the first page", lambda tree, folder: lambda: page(tree, folder, "first")),
    "train": ("the Train page", lambda tree, folder: lambda: page(tree, folder, "train")),
    "step": ("a training step", stepper),
}
"""Each with its title and how it is measured."""


def row(name: str, pairs: list[tuple[Times, Times]]) -> list[str]:
    """Return the row of a table: seconds of both, and the medians of the ratios with their quartiles."""
    cells = [name, str(len(pairs))]
    for kind in (0, 1):
        this, other = ([pair[side][kind] for pair in pairs] for side in (0, 1))
        ratios = [a / b for a, b in zip(this, other, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cells += [f"{statistics.median(this):.3g} / {statistics.median(other):.3g}"]
        cells += [f"{middle:.3f} [{low:.3f}, {high:.3f}]"]
    return cells


def by_turns(this: Callable[[], Times], other: Callable[[], Times], turns: int) -> list[tuple[Times, Times]]:
    """Measure both by turns; every second turn begins with the other one."""
    pairs = []
    for turn in range(turns + 1):
        if turn % 2:
            second = other()
            pairs.append((this(), second))
        else:
            pairs.append((this(), other()))
    return pairs[1:]  # the first turn compiles files and fills caches


def main() -> None:
    """Measure and print the table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), help="all by default")
    options = parser.parse_args()
    trees, rows = (HERE, options.other.resolve()), []
    with tempfile.TemporaryDirectory() as name:
        for kind in options.only:
            title, measure = MEASURES[kind]
            this, other = (measure(tree, Path(name)) for tree in trees)
            rows.append(row(title, by_turns(this, other, max(2, options.repeats))))
    header = ("", "pairs", "processor, s, this / other", "ratio", "by the clock, s", "ratio")
    publish("The common path beside another version", table(header, rows), options.write)


if __name__ == "__main__":
    main()

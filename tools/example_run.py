"""Make the example run that ships with shpeft: ``python tools/example_run.py``.

The embedded backbone learns a phantom, so the example shows no patient. The same versions of the libraries give the
same delta; times and the computer's processes are left out.
"""

import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shpeft import RunConfig, RunFolder, pipeline  # noqa: E402
from shpeft.runs import export_bytes  # noqa: E402
from shpeft.runs.example import EXAMPLE  # noqa: E402

CONFIG = {
    "dataset": {"source": "phantom:fundus?n=240&size=160"},
    "selection": {"scope": "last:25%"},
    "training": {"epochs": 6},
    "decision": {"must_not_miss": "haemorrhages"},
}
WHEN = 1_767_225_600.0
"""The date of the example, 1 January 2026."""


def main() -> None:
    """Train the run in a temporary folder and replace the example by its export."""
    config = RunConfig.parse(CONFIG)
    with tempfile.TemporaryDirectory() as root:
        run = RunFolder.create(Path(root) / EXAMPLE, config)
        pipeline.run(config, run, progress=lambda stage, done, total: print(f"{stage}: {done} of {total}"))
        archive = zipfile.ZipFile(io.BytesIO(export_bytes(run)))
    out = ROOT / "assets" / EXAMPLE
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name in archive.namelist():
        if name != "manifest.json":
            (out / name).write_bytes(archive.read(name))
    state = json.loads((out / "state.json").read_text()) | {"started": WHEN, "updated": WHEN}
    (out / "state.json").write_text(json.dumps(state, indent=1) + "\n")
    metrics = json.loads((out / "metrics.json").read_text()) | {"seconds": {}}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n")
    print(out, f"{sum(file.stat().st_size for file in out.iterdir()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()

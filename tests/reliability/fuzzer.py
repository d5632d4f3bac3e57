"""Attack one reader with atheris: ``python -m tests.reliability.fuzzer KIND SECONDS FOLDER``.

It changes a valid file at random and goes on from the changes that reach new lines of shpeft. It ends with status 0
after the time, and with another one, its exception and the file in FOLDER, at the first fault.
"""

import sys
import warnings
from pathlib import Path

import atheris

LINES_OF = ["shpeft.backbones", "shpeft.config", "shpeft.datasets", "shpeft.delta", "shpeft.images"]
LINES_OF += ["shpeft.runs", "shpeft.support", "pydicom"]
"""What new lines are looked for in: what reads files."""

MEBIBYTES, FILE_SECONDS = 4096, 30
"""Most memory of the process, and most time for one file."""


def main(kind: str, seconds: str, folder: Path) -> None:
    """Attack until the time is over."""
    with atheris.instrument_imports(include=LINES_OF):
        from tests.reliability.targets import TARGETS

    target = TARGETS[kind]
    corpus, files = folder / "corpus", folder / "files"
    for new in (corpus, files):
        new.mkdir()
    (corpus / "valid").write_bytes(target.seed())
    warnings.simplefilter("ignore")
    target.is_read(target.seed(), files)  # what is loaded once does not count as the first file's time
    options = [f"-max_total_time={seconds}", f"-rss_limit_mb={MEBIBYTES}", f"-timeout={FILE_SECONDS}"]
    options += ["-seed=1", "-print_final_stats=1", f"-artifact_prefix={folder}/fault-", str(corpus)]

    def attack(data: bytes) -> None:
        target.is_read(data, files)

    atheris.Setup([sys.argv[0], *options], attack)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

"""A sweep on disk: a folder with its definition and results; its runs lie beside it and begin with its name.

A folder holds ``sweep.yaml``, and once a run is finished ``summary.json`` and ``table.csv``; with folds also
``predictions*.csv``, the predictions of the test images of all folds.
"""

import json
from pathlib import Path
from typing import Any

from shpeft.config.sweep import Member, Sweep
from shpeft.errors import ConfigError, RunError
from shpeft.runs.folder import RunFolder, with_absolute_paths
from shpeft.runs.listing import checked_name, runs_root
from shpeft.runs.run_file import RunFile
from shpeft.support.atomic_files import write_atomic
from shpeft.support.bounded_files import parse_json

DEFINITION = "sweep.yaml"


class SweepFolder:
    """A sweep on disk; make one with ``create`` or ``open``.

    Attributes:
        path: the folder; the runs are in the same folder as it.
        sweep: its definition, with the number of folds.
    """

    def __init__(self, path: Path, sweep: Sweep) -> None:
        self.path, self.sweep = path, sweep
        self._summary, self._table = RunFile(path, "summary.json"), RunFile(path, "table.csv")

    def __repr__(self) -> str:
        return f"SweepFolder({self.name}, {len(self.members)} runs)"

    @classmethod
    def create(cls, path: str | Path, sweep: Sweep) -> "SweepFolder":
        """Make the folder of a sweep; one with the same definition is continued.

        Raises:
            ConfigError: see :meth:`Sweep.members`.
            RunError: the folder holds something else, or another sweep.
        """
        path = Path(path)
        checked_name(path.name)
        sweep = sweep.model_copy(update={"config": with_absolute_paths(sweep.config)})
        if path.exists():
            if not (path / DEFINITION).exists():
                raise RunError(f"{path} exists and is no sweep. Choose another name with --out.")
            before = cls.open(path)
            if before.sweep != sweep:
                raise RunError(f"{path} holds a sweep with other settings. Choose another name with --out.")
            return before
        created = cls(path, sweep)
        for member in created.members:
            checked_name(created.run_path(member).name)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"The folder {path} cannot be made: {error.strerror}. Choose another path.") from None
        write_atomic(path / DEFINITION, sweep.to_yaml())
        return created

    @classmethod
    def open(cls, path: str | Path) -> "SweepFolder":
        """Open the folder of a sweep.

        Raises:
            RunError: there is none, or its definition cannot be read.
        """
        path = Path(path)
        if not (path / DEFINITION).is_file():
            raise RunError(f"There is no sweep {path}: it has no {DEFINITION}.")
        try:
            return cls(path, Sweep.from_yaml(path / DEFINITION))
        except ConfigError as error:
            raise RunError(f"The sweep {path.name} is damaged. {error}") from None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def members(self) -> list[Member]:
        """The runs of the sweep, present or not."""
        return self.sweep.members()

    def run_path(self, member: Member) -> Path:
        """Return the folder of a run."""
        return self.path.with_name(f"{self.name}-{member.name}" if member.name else f"{self.name}-run")

    def finished(self) -> list[tuple[Member, RunFolder]]:
        """Return the finished runs."""
        folders = [(member, self.run_path(member)) for member in self.members]
        runs = [(member, RunFolder.open(path)) for member, path in folders if (path / "config.yaml").exists()]
        return [(member, run) for member, run in runs if run.state.status == "finished"]

    def write(self, summary: dict[str, Any], table: str, predictions: dict[str, str]) -> None:
        """Write the results; the predictions by their file's name."""
        for name, text in predictions.items():
            write_atomic(self.path / name, text)
        self._table.write(table)
        self._summary.write(json.dumps(summary, indent=1) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """Return the results, or None until a run is finished.

        Raises:
            RunError: the file is damaged.
        """
        summary: dict[str, Any] | None = self._summary.parse_if_exists(parse_json)
        return summary


def list_sweeps(root: str | Path | None = None) -> list[SweepFolder]:
    """Return the sweeps under ``root`` by name, without damaged ones.

    Args:
        root: the folder of runs, ``runs_root()`` by default.
    """
    root, sweeps = Path(root or runs_root()), []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if (path / DEFINITION).is_file():
            try:
                sweeps.append(SweepFolder.open(path))
            except RunError:
                continue
    return sweeps

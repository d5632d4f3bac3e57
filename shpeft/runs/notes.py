"""``notes.md``: the user's notes about a run."""

from pathlib import Path

from shpeft.runs.example import refuse_example
from shpeft.runs.run_file import RunFile


class Notes:
    """The user's notes about a run. They are never exported."""

    def __init__(self, folder: Path) -> None:
        self._file = RunFile(folder, "notes.md")

    def read(self) -> str:
        """Return the notes, or an empty text if there are none.

        Raises:
            RunError: the file is damaged.
        """
        return self._file.parse_if_exists(bytes.decode) or ""

    def write(self, text: str) -> None:
        """Replace the notes; a blank text deletes them.

        Raises:
            RunError: the run is the example that ships with shpeft.
        """
        refuse_example(self._file.folder)
        if text.strip():
            self._file.write(text.strip() + "\n")
        else:
            self._file.path.unlink(missing_ok=True)

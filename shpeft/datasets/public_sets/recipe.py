"""The recipe of a public set: its origin, license, file layout and reader."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shpeft.datasets.discover import Layout
from shpeft.errors import DatasetError

Discovered = tuple[Layout, dict[str, str], list[str]]
"""The image files, the known groups by file name, and warnings."""


@dataclass(frozen=True)
class Recipe:
    """How to read one public set from its unpacked download.

    Attributes:
        name: what it is called in ``recipe:NAME=FOLDER``.
        title, modality: as shown to the user.
        classes: the labels, in the order of the model's outputs.
        page: the official page, where the download and the terms are.
        license: what applies, and how sure that is.
        license_source: where that is stated.
        cite: the article to cite.
        homes: folders inside the given one where the set may lie, '' for the given one itself.
        needed: files and folders that must be there, relative to a home.
        tree: the layout as text, a line a file or folder.
        groups: what says which images belong to one patient or lesion, or that nothing does.
        problems: what is known to be wrong with the set, for the dataset card.
        unverified: what could not be checked at the official source when this was written.
        read: finds the images in the set's home.
    """

    name: str
    title: str
    modality: str
    classes: tuple[str, ...]
    page: str
    license: str
    license_source: str
    cite: str
    homes: tuple[str, ...]
    needed: tuple[str, ...]
    tree: tuple[str, ...]
    groups: str
    problems: tuple[str, ...]
    unverified: str
    read: Callable[[Path, tuple[str, ...]], Discovered]

    @property
    def source(self) -> str:
        """What ``load_dataset`` calls it, without the folder."""
        return f"recipe:{self.name}"

    def discover(self, folder: Path) -> Discovered:
        """Return the images of an unpacked download, without opening any of them.

        Raises:
            DatasetError: the layout is another one; says which file was expected where.
        """
        layout, groups, warnings = self.read(self._home(folder), self.classes)
        absent = [name for name in self.classes if not any(file.label == name for file in layout.files)]
        if absent:
            raise DatasetError(f"'{self.source}' found no image of the class '{absent[0]}'. {self._expected()}")
        return layout, groups, [*warnings, *(f"Known of this set: {problem}" for problem in self.problems)]

    def card(self) -> dict[str, Any]:
        """Return the dataset card's entries that are not derived from the files."""
        license = f"License: {self.license} Stated at: {self.license_source}."
        notice = f"{self.title}. {license} Source: {self.page} Cite: {self.cite} Research use only."
        return {"name": self.source, "modality": self.modality, "notice": notice}

    def facts(self) -> dict[str, Any]:
        """Return all facts about the set as a dictionary."""
        return {"source": self.source} | {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("name", "read")
        }

    def explain(self) -> str:
        """Return the facts about the set as text."""
        parts = [
            f"{self.source}: {self.title} ({self.modality})",
            f"Classes: {', '.join(self.classes)}",
            f"Get it from: {self.page}",
            f"License: {self.license}",
            f"Stated at: {self.license_source}",
            f"Cite: {self.cite}",
            "Expected, in the folder that you give:",
            *(f"  {line}" for line in self.tree),
            f"Patients and groups: {self.groups}",
            *(f"Known problem: {problem}" for problem in self.problems),
            f"Not verified: {self.unverified}",
            f"Use it with: --data {self.source}=FOLDER",
        ]
        return "\n".join(parts)

    def _home(self, folder: Path) -> Path:
        """Return the folder that holds the set; the error names the most likely one."""
        if not folder.is_dir():
            raise DatasetError(
                f"'{self.source}' needs the folder of the unpacked download; '{folder}' is not a folder. Get the set "
                f"from {self.page}, unpack it, and give {self.source}=FOLDER."
            )
        homes = [folder / home for home in self.homes]
        missing = {home: [name for name in self.needed if not (home / name).exists()] for home in homes}
        best = min(homes, key=lambda home: len(missing[home]))
        if missing[best]:
            where = " or ".join(f"'{(Path(folder.name) / home).as_posix()}'" for home in self.homes)
            present = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
            raise DatasetError(
                f"'{self.source}' expects '{missing[best][0]}' in {where}, and it is not there (found: {present}). "
                f"{self._expected()}"
            )
        return best

    def _expected(self) -> str:
        return f"The expected layout: {'; '.join(self.tree)}. Get the set from {self.page}."

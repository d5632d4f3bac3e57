"""What a recipe is: where a public set comes from, what it allows, how its files lie, and how to read them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from shpeft.datasets.layout import Layout
from shpeft.errors import DatasetError

Discovered = tuple[Layout, dict[str, str], list[str]]
"""The image files, the group of each (by its name) that has one, and warnings."""


@dataclass(frozen=True)
class Recipe:
    """How to read one public set from its unpacked download.

    Attributes:
        name: what it is called in ``recipe:NAME=FOLDER``.
        title, modality: for people.
        classes: the labels, in the order of the model's outputs.
        page: the official page, where the download and the terms are.
        licence: what applies, and how sure that is.
        licence_at: where that is stated.
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
    licence: str
    licence_at: str
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
        """The images of an unpacked download, without opening any of them.

        Raises:
            DatasetError: the layout is another one; says which file was expected where.
        """
        layout, groups, warnings = self.read(self._home(folder), self.classes)
        absent = [name for name in self.classes if not any(file.label == name for file in layout.files)]
        if absent:
            raise DatasetError(f"'{self.source}' found no image of the class '{absent[0]}'. {self._expected()}")
        return layout, groups, [*warnings, *(f"Known of this set: {problem}" for problem in self.problems)]

    def card(self) -> dict[str, Any]:
        """What the dataset card says besides what is found in the files."""
        licence = f"Licence: {self.licence} Stated at: {self.licence_at}."
        notice = f"{self.title}. {licence} Source: {self.page} Cite: {self.cite} Research use only."
        return {"name": self.source, "modality": self.modality, "notice": notice}

    def facts(self) -> dict[str, Any]:
        """All that is known of the set, for a machine."""
        return {"source": self.source} | {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("name", "read")
        }

    def explain(self) -> str:
        """Everything that one should know before using the set, as lines of text."""
        parts = [
            f"{self.source}: {self.title} ({self.modality})",
            f"Classes: {', '.join(self.classes)}",
            f"Get it from: {self.page}",
            f"Licence: {self.licence}",
            f"Stated at: {self.licence_at}",
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
        """The folder that holds all that is needed; where none does, the best guess is named."""
        if not folder.is_dir():
            raise DatasetError(
                f"'{self.source}' needs the folder of the unpacked download; '{folder}' is no folder here. Get the set "
                f"from {self.page}, unpack it, and give {self.source}=FOLDER."
            )
        homes = [folder / home for home in self.homes]
        missing = {home: [name for name in self.needed if not (home / name).exists()] for home in homes}
        best = min(homes, key=lambda home: len(missing[home]))
        if missing[best]:
            where = " or ".join(f"'{(Path(folder.name) / home).as_posix()}'" for home in self.homes)
            found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
            raise DatasetError(
                f"'{self.source}' expects '{missing[best][0]}' in {where}, and it is not there (found: {found}). "
                f"{self._expected()}"
            )
        return best

    def _expected(self) -> str:
        return f"The expected layout: {'; '.join(self.tree)}. Get the set from {self.page}."

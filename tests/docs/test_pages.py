"""Every page of the documentation: its Python runs, its command lines parse, its links lead somewhere."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from shpeft.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "assets").glob("*.md"),
        *(page for page in (ROOT / "docs").rglob("*.md") if not {"_build", "_generated"} & set(page.parts)),
    ]
)
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The code blocks of a page in one language, each with the number of its first line."""
    text = page.read_text()
    return [(text[: m.start(2)].count("\n") + 1, m[2]) for m in FENCE.finditer(text) if m[1] == language]


def commands(page: Path) -> list[str]:
    """The ``shpeft`` command lines of a page's shell blocks, continued lines joined."""
    lines = "\n".join(text for _, text in blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("shpeft ")]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_there_are_pages_with_code() -> None:
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 2
    assert sum(len(commands(page)) for page in PAGES) >= 40


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for line, text in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + text, page, "exec"), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_command_lines_parse(page: Path) -> None:
    for line in commands(page):
        _, *arguments = shlex.split(line, comments=True)
        app.parse_args(arguments, print_error=False, exit_on_error=False)  # raises on unknown commands and options


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["own_images", "paper_figures", "plain_timm"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_every_command_has_a_page() -> None:
    verbs = {name for name in app.resolved_commands() if not name.startswith("-")}
    assert verbs == {page.stem for page in (ROOT / "docs" / "commands").glob("*.md")} - {"index"}


def test_every_public_name_has_an_entry_in_the_api() -> None:
    import shpeft

    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference" / "api").glob("*.md"))
    entries = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, re.MULTILINE)
    assert sorted(entries) == sorted(set(shpeft.__all__) - {"ShpeftError"})  # errors have their own page

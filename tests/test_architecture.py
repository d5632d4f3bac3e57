"""The structure of the project: layers, one home for each library, public names, names that say nothing."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import shpeft

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shpeft"

LAYERS = [
    {"equations", "errors"},
    {"support", "tasks"},
    {"config", "images"},
    {"datasets", "backbones"},
    {"forward"},
    {"linear_probe", "evaluation"},
    {"importance"},
    {"selection"},
    {"delta"},
    {"explanation", "training"},
    {"runs"},
    {"diagnosis", "figures", "pipeline"},
    {"jobs", "compare", "batch", "reports"},
    {"service"},
    {"cli"},
    {"__main__"},
]

HOMES = {
    "timm": {"backbones"},
    "captum": {"explanation"},
    "cyclopts": {"cli", "config"},
    "plotly": {"figures"},
    "pydicom": {"images", "reports", "service"},
    "dicomweb_client": {"service"},
    "highdicom": {"reports"},
    "starlette": {"service"},
    "medmnist": {"datasets"},
    "pandas": {"datasets"},
    "streamlit": set(),
    "sklearn": {"linear_probe", "evaluation", "datasets", "compare"},
    "peft": {"compare", "pipeline"},
    "jinja2": {"reports"},
    "playwright": {"support"},
    "torchvision": {"training"},
    "mlflow": {"pipeline"},
    "wandb": {"pipeline"},
    "trackio": {"pipeline"},
    "ray": {"jobs"},
    "flwr": {"jobs"},
}

FORBIDDEN = {"found", "told", "wanted", "kept", "place", "one", "words", "start", "here", "there"}
"""Names that say nothing about the value they hold."""

MOST_MODULES = 26
"""Modules and packages at the top level of shpeft."""


def modules() -> dict[str, list[Path]]:
    """Return the files of each top-level module or package of shpeft."""
    files: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            files.setdefault(relative.parts[0].removesuffix(".py"), []).append(path)
    return files


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            assert node.module is not None
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def own(path: Path) -> set[str]:
    """Return the top-level modules of shpeft that a file imports."""
    known = set[str]().union(*LAYERS)
    return {parts[1] for name in imported(path) if (parts := name.split("."))[0] == "shpeft" and len(parts) > 1} & known


def test_every_module_has_a_layer() -> None:
    assert set(modules()) == set[str]().union(*LAYERS)


def test_architecture_page_has_the_same_layers() -> None:
    rows = re.findall(r"^\| *\d+ *\| *([^|]*)\|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    table = [{name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", row)} for row in rows]
    assert [row for row in table if row != {"../app"}] == LAYERS


@pytest.mark.parametrize("module", sorted(modules()))
def test_modules_import_only_lower_layers(module: str) -> None:
    """A module that imports only lower layers is in no import cycle between packages."""
    level = next(i for i, layer in enumerate(LAYERS) if module in layer)
    below = set[str]().union(*LAYERS[:level]) | {module}
    for path in modules()[module]:
        assert own(path) <= below, f"{path.name} imports {sorted(own(path) - below)}"


def test_the_top_level_stays_small() -> None:
    assert len(modules().keys() - {"__main__"}) <= MOST_MODULES


def test_equations_import_torch_alone() -> None:
    roots = {name.split(".")[0] for name in imported(PACKAGE / "equations.py")}
    assert roots <= {"collections", "torch", "typing"}


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    users = {
        module
        for module, paths in modules().items()
        for path in paths
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert users <= HOMES[library]


def test_pages_import_no_arithmetic_libraries() -> None:
    paths = list((ROOT / "app").rglob("*.py"))
    assert paths
    for path in paths:
        roots = {name.split(".")[0] for name in imported(path) if name}
        assert not roots & {"torch", "numpy", "pandas", "scipy", "sklearn", "timm", "captum", "plotly"}, path.name


def test_no_module_of_the_app_hides_an_installed_package() -> None:
    """Streamlit puts the folder of the started script on ``sys.path``."""
    names = {path.stem for path in (ROOT / "app").iterdir() if path.suffix == ".py" or path.is_dir()}
    names -= {name for name in names if name.startswith((".", "__"))}
    assert "main" in names
    assert not names & (metadata.packages_distributions().keys() | sys.stdlib_module_names)


# -- names


def forbidden_names(path: Path) -> list[str]:
    """Return the forbidden names that a file binds, with their lines."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        bound = (
            node.id
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else node.arg
            if isinstance(node, ast.arg)
            else node.name
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else node.attr
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            else node.asname
            if isinstance(node, ast.alias)
            else None
        )
        if bound and bound.lstrip("_") in FORBIDDEN:
            names.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {bound}")
    return names


@pytest.mark.parametrize("folder", ["shpeft", "app", "tests"])
def test_names_say_what_they_hold(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    assert [name for path in paths for name in forbidden_names(path)] == []


# -- public names


def test_public_names_are_exact_sorted_and_there() -> None:
    assert shpeft.__all__ == sorted(shpeft._HOMES)
    for name in shpeft.__all__:
        assert getattr(shpeft, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute"):
        shpeft.nothing  # noqa: B018


def test_submodules_are_attributes_after_importing_shpeft() -> None:
    names = sorted(modules().keys() - {"__main__"})
    code = f"import shpeft\nfor name in {names}: assert getattr(shpeft, name).__name__ == f'shpeft.{{name}}', name"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert set(names) <= set(dir(shpeft))


@pytest.mark.parametrize("module", ["shpeft", "shpeft.jobs", "shpeft.runs"])
def test_importing_the_front_door_loads_no_arithmetic(module: str) -> None:
    code = f"import {module}, sys; print([m for m in ('torch', 'timm', 'numpy') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert process.stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()

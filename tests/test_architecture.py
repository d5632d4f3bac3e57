"""The shape of the project: layers, one home for each library, the public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shpeft

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shpeft"

LAYERS = [
    {"equations", "errors", "progress", "seeding"},
    {"chance", "config", "images", "files", "kernels", "network", "printing"},
    {"datasets", "backbones", "flags"},
    {"feed"},
    {"prefix"},
    {"probe", "scoring"},
    {"importance", "gradients"},
    {"matrices", "selection", "summaries"},
    {"delta", "ranking"},
    {"checkpoint", "deltafile", "evaluation", "overlaps", "saliency", "switching", "temperature", "trainable"},
    {"attribution", "training", "trust"},
    {"runs"},
    {"diagnosis", "figures", "pipeline", "readers", "shortcut"},
    {"jobs", "compare", "batch", "reports"},
    {"cli"},
    {"__main__"},
]

HOMES = {
    "timm": {"backbones"},
    "captum": {"saliency"},
    "plotly": {"figures"},
    "pydicom": {"images"},
    "medmnist": {"datasets"},
    "pandas": {"datasets"},
    "streamlit": set(),
    "sklearn": {"probe", "evaluation", "datasets", "compare", "readers", "trust"},
    "peft": {"compare"},
    "jinja2": {"reports"},
    "playwright": {"printing"},
}


def modules() -> dict[str, list[Path]]:
    """Each module or subpackage of shpeft with its files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            found.setdefault(relative.parts[0].removesuffix(".py"), []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in the file, except for type checking."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    """The shpeft modules that a file imports."""
    known = set().union(*LAYERS)
    return {parts[1] for name in imported(path) if (parts := name.split("."))[0] == "shpeft" and len(parts) > 1} & known


def test_every_module_has_a_layer():
    assert set(modules()) == set().union(*LAYERS) & set(modules())


@pytest.mark.parametrize("module", sorted(modules()))
def test_modules_import_only_what_lies_below(module):
    level = next(i for i, layer in enumerate(LAYERS) if module in layer)
    below = set().union(*LAYERS[:level]) | {module}
    for path in modules()[module]:
        assert own(path) <= below, f"{path.name} imports {sorted(own(path) - below)}"


def test_equations_import_torch_alone():
    roots = {name.split(".")[0] for name in imported(PACKAGE / "equations.py")}
    assert roots <= {"collections", "torch", "typing"}


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    users = {
        module
        for module, paths in modules().items()
        for path in paths
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert users <= HOMES[library]


def test_pages_hold_no_arithmetic_libraries():
    for path in (ROOT / "app").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path) if name}
        assert not roots & {"torch", "numpy", "pandas", "scipy", "sklearn", "timm", "captum", "plotly"}, path.name


def test_public_names_are_exact_sorted_and_there():
    assert shpeft.__all__ == sorted(shpeft.__all__)
    assert set(shpeft.__all__) == set(shpeft._HOMES)
    for name in shpeft.__all__:
        assert getattr(shpeft, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute"):
        shpeft.nothing  # noqa: B018


def test_importing_shpeft_does_not_load_torch():
    code = "import shpeft, sys; print(any(m in sys.modules for m in ('torch', 'timm', 'numpy')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"

"""Sphinx settings. Build with ``make docs``; nothing is downloaded."""

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import shpeft
from shpeft.cli.main import app
from shpeft.config import reference_markdown

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["SHPEFT_CACHE"] = "off"  # notebooks leave nothing in the cache of whoever builds
os.environ["PLOTLY_RENDERER"] = "notebook"  # figures bring their script along, so that pages work offline

project = "shpeft"
author = "The shpeft authors"
copyright = author
release = version = shpeft.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "_generated"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
suppress_warnings = ["myst.xref_missing"]  # links of included pages to files that are not part of the site
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # progress and the advice of libraries

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"shpeft {release}"
html_logo = "../assets/logo.svg"
html_favicon = "../assets/logo.svg"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "announcement": shpeft.NOTICE,
    "top_of_page_buttons": [],
    "light_css_variables": {"color-brand-primary": "#00658f", "color-brand-content": "#00658f"},
    "dark_css_variables": {"color-brand-primary": "#5cb8e6", "color-brand-content": "#5cb8e6"},
}


def write_references(_: Sphinx) -> None:
    """Write the pages that are made from code: the command line and the configuration."""
    folder = Path(__file__).parent / "_generated"
    folder.mkdir(exist_ok=True)
    commands = app.generate_docs(heading_level=1)
    pages = {
        "command_line.md": commands[commands.index("\n## shpeft finetune") :],
        "configuration.md": reference_markdown(),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def escape_bars(_: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape bars, as in an absolute value, which reStructuredText takes for a substitution."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split("(``.*?``)", line)
            lines[i] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def drop_remote_scripts(_: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Remove the script that plotly asks a server for, which formulas in figures would need."""
    if "body" in context:
        context["body"] = re.sub(r'<script src="https:[^>]*></script>', "", context["body"])


def setup(sphinx: Sphinx) -> None:
    """Register the hooks."""
    sphinx.connect("html-page-context", drop_remote_scripts)
    sphinx.connect("autodoc-process-docstring", escape_bars)
    sphinx.connect("builder-inited", write_references)

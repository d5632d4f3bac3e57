"""Parts of every page: notice, errors as sentences, sections, links and names."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import streamlit as st

from shpeft import NOTICE
from shpeft.config.schema import Budget
from shpeft.errors import ShpeftError, notes_of
from shpeft.runs import RunFolder
from shpeft.support.admission import admission
from shpeft.support.environment import traceback_text
from shpeft.support.formatting import percent
from shpeft.support.markdown import plain
from shpeft.support.memory import as_out_of_memory

STYLE = """<style>
.stMainBlockContainer {padding-top: 4.5rem}
/* Streamlit shows these with a contrast below 4.5:1 */
.js-plotly-plot text:not(.textpoint text, .hoverlayer text, .bartext-inside) {fill: currentColor !important}
[data-testid="stWidgetLabel"][disabled] {color: inherit}
[data-tag-index], [data-tag-index] *, [data-testid="stBaseButton-primary"] {color: light-dark(#ffffff, #12181d)}
/* on narrow pages, options wrap to a second line instead of being cut off */
.stButtonGroup > div {flex-wrap: wrap}
[data-testid="stTopNav"] {overflow: clip !important; overflow-clip-margin: 1rem; min-width: 0}
</style>"""
"""Styles beyond the theme's settings."""


def notice() -> None:
    """Draw the notice near the top of every page."""
    st.html(STYLE)
    st.caption(f":material/info: **{NOTICE}** Your images stay on {plain(computer())}.")


def computer() -> str:
    """Return what the app runs on, for sentences about where images are: ``this computer`` or ``the server HOST``."""
    site = admission()
    return "this computer" if site.kind == "token" else f"the server {site.name}"


def show_error(error: ShpeftError) -> None:
    """Show an error that the reader can fix, as a sentence, with the files it is about."""
    message = str(error)
    st.error(plain(f"{message[:1].upper()}{message[1:]}"), icon=":material/error:")
    if files := notes_of(error):
        with st.expander("Files", expanded=True):
            st.code("\n".join(files), language=None)


@contextmanager
def error_boundary() -> Iterator[None]:
    """Show a ShpeftError as a sentence, and anything else as a bug."""
    try:
        yield
    except ShpeftError as error:
        show_error(error)
    except Exception as error:  # the rest of the page stays usable
        if starved := as_out_of_memory(error):
            show_error(starved)
            return
        st.error(
            f"This is a bug in shpeft ({plain(type(error).__name__)}), not something you did.",
            icon=":material/bug_report:",
        )
        with st.expander("Details for a report"):
            st.code(traceback_text(error), language=None)


P = ParamSpec("P")


def section(draw: Callable[P, None]) -> Callable[P, None]:
    """Turn a function into a section of a page: its widgets redraw the section alone."""

    @st.fragment
    @wraps(draw)
    def redraw(*args: P.args, **kwargs: P.kwargs) -> None:
        with error_boundary():
            draw(*args, **kwargs)

    return redraw


def newly_clicked(event: Any, chart: str) -> list[Any] | None:
    """Return the ``customdata`` of the point just clicked; None if the selection has not changed.

    A chart keeps its selection: without this check, an old click would undo a later choice made elsewhere.
    """
    clicked = next((point["customdata"] for point in event.selection.points if point.get("customdata")), None)
    before = st.session_state.get(f"clicked-{chart}")
    st.session_state[f"clicked-{chart}"] = clicked
    return None if clicked == before else clicked


def dataset_name(source: str) -> str:
    """Return a dataset's name for people: a folder's own name, without its path."""
    if source.startswith("phantom:"):
        return f"{source.removeprefix('phantom:').partition('?')[0]} phantom"
    if source.startswith("recipe:"):
        return source.removeprefix("recipe:").partition("=")[0]
    return source if source.startswith("medmnist:") else Path(source).name


def share(fraction: float) -> str:
    """Format a fraction as ``0.010 %``, with a no-break space."""
    return percent(fraction).replace(" ", "\N{NO-BREAK SPACE}")


def budget_text(budget: Budget) -> str:
    """Format a budget as ``0.010 %``, ``500 weights`` or ``budget chosen on the validation images``."""
    if isinstance(budget, str):
        return "budget chosen on the validation images"
    return share(budget) if budget < 1 else f"{budget:,} weights"


def run_title(run: RunFolder) -> str:
    """Describe a run in one line."""
    config = run.config
    if run.is_example:
        return f"Example that ships with shpeft · {dataset_name(config.dataset.source)}"
    return " · ".join(dict.fromkeys((run.name, dataset_name(config.dataset.source), config.backbone.name)))


NEXT_PAGES = {
    "diagnose": "Diagnose an image",
    "evaluate": "Evaluate the model",
    "importance": "Which weights matter",
    "overlap": "Where the scores agree",
    "runs": "Configuration and files",
}


def page_links(name: str, pages: Sequence[str]) -> None:
    """Draw links to other pages of a run."""
    with st.container(horizontal=True):
        for page in pages:
            st.page_link(
                f"views/{page}/page.py",
                label=NEXT_PAGES[page],
                icon=":material/arrow_forward:",
                query_params={"run": name},
            )

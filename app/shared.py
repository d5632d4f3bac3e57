"""What every page needs: the guard, the banner, the error boundary, the libraries, and which run is looked at."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import streamlit as st

from shpeft import NOTICE
from shpeft.errors import RunError, ShpeftError, notes
from shpeft.jobs import JobManager, manager
from shpeft.runs import RunFolder, find_run, list_runs
from shpeft.runs.card import percent
from shpeft.runs.formats import traceback_text

SAFE = {
    "server.address": ("127.0.0.1", "localhost", "::1"),
    "browser.gatherUsageStats": (False,),
    "runner.postScriptGC": (False,),
    "server.fileWatcherType": ("none",),
    "client.showErrorDetails": ("none",),
}
"""Settings that must be in force, with the values that will do: a configuration that is not found fails open."""

SETTING = "set_"
"""How the keys of the widgets begin whose values outlive a change of page."""


STYLE = """<style>
.stMainBlockContainer {padding-top: 4.5rem}
/* what Streamlit shows with a contrast below 4.5:1 */
.js-plotly-plot text:not(.textpoint text, .hoverlayer text, .bartext-inside) {fill: currentColor !important}
[data-testid="stWidgetLabel"][disabled] {color: inherit}
[data-tag-index], [data-tag-index] *, [data-testid="stBaseButton-primary"] {color: light-dark(#ffffff, #12181d)}
/* where the page is narrow, choices go on in a second line instead of being cut off */
.stButtonGroup > div {flex-wrap: wrap}
[data-testid="stTopNav"] {overflow: clip !important; overflow-clip-margin: 1rem; min-width: 0}
</style>"""
"""What the theme's settings cannot say."""


def guard() -> None:
    """Stop where Streamlit runs without the app's own configuration."""
    wrong = [key for key, allowed in SAFE.items() if st.get_option(key) not in allowed]
    if wrong:
        st.error(
            "shpeft does not start, because its settings are not in force: "
            + ", ".join(f"`{key}` is `{st.get_option(key)}`" for key in wrong)
            + ". They stand in `app/.streamlit/config.toml`. Put that file back, take conflicting `STREAMLIT_…` "
            "variables out of the environment, and start the app with `shpeft ui` or `streamlit run app/main.py`."
        )
        st.stop()


def keep_settings() -> None:
    """Keep what was chosen on a page when another page is shown: Streamlit forgets widgets that it does not see.

    Only what was forgotten is said again. Said at every run, a value would be sent to the browser with each drawing of
    the page and take the place of what was typed there meanwhile.
    """
    kept = st.session_state.setdefault("kept", {})
    kept |= {key: value for key, value in st.session_state.items() if str(key).startswith(SETTING)}
    for key in kept:
        if key not in st.session_state:
            st.session_state[key] = kept[key]


def banner() -> None:
    """The notice that stands on every page, near its top."""
    st.html(STYLE)
    st.caption(f":material/info: **{NOTICE}** Your images stay on this computer.")


def complain(error: ShpeftError) -> None:
    """An error that the reader can put right, as a sentence, and the files that it is about."""
    words = str(error)
    st.error(f"{words[:1].upper()}{words[1:]}", icon=":material/error:")
    if files := notes(error):
        with st.expander("The files", expanded=True):
            st.code("\n".join(files), language=None)


@contextmanager
def boundary() -> Iterator[None]:
    """Show a ShpeftError as the sentence that it is, and anything else as a bug."""
    try:
        yield
    except ShpeftError as error:
        complain(error)
    except Exception as error:  # the page stays usable, whatever happened
        st.error(
            f"This is a bug in shpeft ({type(error).__name__}), not something you did.", icon=":material/bug_report:"
        )
        with st.expander("Details for a report"):
            st.code(traceback_text(error), language=None)


Given = ParamSpec("Given")


def part(draw: Callable[Given, None]) -> Callable[Given, None]:
    """Make a part of a page that is drawn anew alone when something in it is chosen; the rest stays as it is."""

    @st.fragment
    @wraps(draw)
    def alone(*args: Given.args, **kwargs: Given.kwargs) -> None:
        with boundary():
            draw(*args, **kwargs)

    return alone


def newly_clicked(event: Any, chart: str) -> list[Any] | None:
    """The ``customdata`` of the point that has just been clicked on; None where the selection is that of before.

    A selection lasts, but a click is news once: what is chosen elsewhere after it stands.
    """
    clicked = next((point["customdata"] for point in event.selection.points if point.get("customdata")), None)
    known = st.session_state.get(f"clicked-{chart}")
    st.session_state[f"clicked-{chart}"] = clicked
    return None if clicked == known else clicked


@st.cache_resource(show_spinner=False)
def _loading() -> threading.Thread:
    """A thread that loads what takes seconds, begun by the first visitor."""

    def load() -> None:
        import shpeft.figures
        import shpeft.pipeline
        import shpeft.saliency  # noqa: F401

    thread = threading.Thread(target=load, name="shpeft-libraries", daemon=True)
    thread.start()
    return thread


def load_libraries() -> None:
    """Wait until the libraries are loaded, once after a start."""
    thread = _loading()
    if thread.is_alive():
        with st.spinner("Loading PyTorch. This takes a few seconds, once after each start."):
            thread.join()


def jobs() -> JobManager:
    """The runs in the background, one manager for all pages and browsers."""
    return manager()


def current_run() -> str | None:
    """The name of the run that is looked at: the address names it, or the session remembers it."""
    return st.query_params.get("run") or st.session_state.get("run")


def look_at(name: str | None) -> None:
    """Make this the run that is looked at, on this page and the next ones."""
    st.session_state["run"] = name
    if name is None:
        st.query_params.pop("run", None)
    elif st.query_params.get("run") != name:
        st.query_params["run"] = name


def pick_run(fit: Sequence[RunFolder], nothing: str, unfit: str) -> RunFolder:
    """Let a run be chosen; the page ends here where there is none.

    Args:
        fit: the runs that this page can show.
        nothing: what to say where there is no such run at all.
        unfit: what to say of a run that this page cannot show; it follows the run's name and status.
    """
    if not fit:
        st.info(nothing)
        st.page_link("views/train.py", label="Train a model", icon=":material/arrow_forward:")
        st.stop()
    by_name = {run.name: run for run in fit}
    current = current_run() or next(iter(by_name))
    st.session_state["picked"] = current if current in by_name else None
    st.selectbox(
        "Run",
        list(by_name),
        key="picked",
        format_func=lambda name: title(by_name[name]),
        placeholder="Choose a run",
        on_change=lambda: look_at(st.session_state["picked"]),
    )
    look_at(current)
    if current not in by_name:
        st.info(_standing(current, unfit))
        st.stop()
    return by_name[current]


def _standing(name: str, unfit: str) -> str:
    """Why the page cannot show a run: ``unfit``, or there is none."""
    try:
        return f"The run {name} is {find_run(name).state.status}. {unfit}"
    except RunError as error:
        return f"{error} Choose one above."


def runs_with(*files: str) -> list[RunFolder]:
    """The runs that have written all of these files, newest first."""
    return [run for run in list_runs() if all((run.path / file).exists() for file in files)]


def source_name(source: str) -> str:
    """A dataset's source for people: of a folder its own name, not its place."""
    if source.startswith("recipe:"):
        return source.partition("=")[0]
    return source if source.startswith(("phantom:", "medmnist:")) else Path(source).name


def share(fraction: float) -> str:
    """``0.010 %``, in one piece at the end of a line."""
    return percent(fraction).replace(" ", "\N{NO-BREAK SPACE}")


def budget_name(budget: int | float) -> str:
    """``0.010 %`` or ``500 weights``."""
    return share(budget) if budget < 1 else f"{budget:,} weights"


def title(run: RunFolder) -> str:
    """A run in one line."""
    wanted = run.config
    parts = (run.name, source_name(wanted.dataset.source), wanted.backbone.name, budget_name(wanted.selection.budget))
    return " · ".join(parts)


LINKS = {
    "importance": "Which weights matter",
    "overlap": "Where the scores agree",
    "evaluate": "How far to trust it",
    "diagnose": "Diagnose an image",
    "runs": "Configuration and files",
}


def links(name: str, pages: Sequence[str]) -> None:
    """Where to go on with a run."""
    with st.container(horizontal=True):
        for page in pages:
            st.page_link(
                f"views/{page}.py", label=LINKS[page], icon=":material/arrow_forward:", query_params={"run": name}
            )

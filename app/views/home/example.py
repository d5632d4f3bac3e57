"""The example, made ready while Home shows: its answer then comes within seconds of the click."""

import threading
from contextlib import suppress

import streamlit as st

from app.widgets import session
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder, example_run


@st.cache_resource(show_spinner=False)
def make_ready() -> threading.Thread | None:
    """Load the example's model and images in a thread, once; return it, or None if there is no example."""
    run = example_run()
    if run is None:
        return None
    thread = threading.Thread(target=_load, args=(run, session.libraries()), name="shpeft-example", daemon=True)
    thread.start()
    return thread


def _load(run: RunFolder, libraries: threading.Event) -> None:
    libraries.wait()
    from app.views.diagnose import model_tasks
    from app.widgets import dataset_card

    with suppress(ShpeftError):  # the page that needs it says what is wrong
        dataset_card.preload(run.config)
        model_tasks.preload(run)
    import shpeft.figures  # noqa: F401  # last: importing while the model is timed would slow it down

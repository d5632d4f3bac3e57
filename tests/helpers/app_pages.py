"""Open the app's pages without a browser, read them and press their buttons."""

import time
from pathlib import Path

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button, Selectbox

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "app" / "pages.py"
PAGES = ("home", "train", "importance", "overlap", "evaluate", "diagnose", "attribution", "runs")
TINY: dict[str, dict[str, object]] = {
    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
    "dataset": {"source": "phantom:fundus?n=36&size=32"},
    "selection": {"budget": 0.01, "images": 12},
    "training": {"epochs": 1},
}
"""A run that takes a second."""


def open_page(page: str = "train", run: str | None = None, **state: object) -> AppTest:
    """Open a page of a run; ``state`` holds values entered into widgets before."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in state.items():
        app.session_state[key] = value
    app.run()
    if page != "home":
        app.switch_page(f"views/{page}/page.py")
        if run:
            app.query_params["run"] = run
        app.run()
    assert not app.exception
    return app


def page_text(app: AppTest) -> str:
    """Return the text of a page: titles, paragraphs, captions, messages and the values of metrics."""
    kinds = (app.title, app.header, app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join([str(part.value) for kind in kinds for part in kind] + [m.value for m in app.metric])


def run_in_address(app: AppTest) -> str:
    """Return the run that the address names."""
    value: str | list[str] = app.query_params["run"]
    return value if isinstance(value, str) else value[0]


def button_labels(app: AppTest) -> list[str]:
    """Return the labels of all buttons."""
    return [button.label for button in app.button]


def find_button(app: AppTest, label: str) -> Button:
    """Return the first button whose label begins so."""
    return next(button for button in app.button if button.label.startswith(label))


def press(app: AppTest, label: str) -> AppTest:
    """Press a button and draw the page again."""
    app = find_button(app, label).click().run()
    return app


def open_test_image(run: str, number: int = 1) -> AppTest:
    """Open the Diagnose page with one of the run's first test images."""
    return open_page("diagnose", run, set_origin="Test images", open_case=number - 1)


def method_choice(app: AppTest) -> "Selectbox[str]":
    """Return the choice of the saliency method."""
    return next(box for box in app.selectbox if box.label == "Method")


def until_done(app: AppTest) -> AppTest:
    """Draw the page again until no work is in progress; without a browser, fragments do not redraw by themselves."""
    deadline = time.monotonic() + 60
    while "Stop" in button_labels(app):
        assert time.monotonic() < deadline, "the work does not end"
        time.sleep(0.05)
        app.run()
    return app

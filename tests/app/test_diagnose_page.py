"""The Diagnose page without a browser: maps and their checks, the attribution to weights, work in the background."""

import json
import re
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.views.diagnose import model_tasks
from app.views.diagnose.images import Worklist
from shpeft.datasets import load_dataset
from shpeft.diagnosis import Diagnosis, diagnose
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.evaluation import Answer, AnyReliability
from shpeft.evaluation.reader_agreement import Reading
from shpeft.explanation.saliency import PassTime, Sanity
from shpeft.jobs import manager
from shpeft.pipeline import load_run
from shpeft.runs import RunFolder, find_run
from shpeft.support.progress import Progress
from tests.helpers.app_pages import (
    button_labels,
    find_button,
    method_choice,
    open_page,
    open_test_image,
    page_text,
    press,
    until_done,
)

AssumePassTime = Callable[[PassTime], None]
QUICK = PassTime(1e-4, 1e-4)


@pytest.fixture
def passing_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map passes its checks; those of the tests' tiny models need not."""
    monkeypatch.setattr(Sanity, "withheld", "")
    monkeypatch.setattr(Sanity, "passed", 2)


@pytest.mark.usefixtures("passing_checks")
def test_a_quick_map_is_made_and_checked_without_a_click(with_run: str, assume_pass_time: AssumePassTime) -> None:
    assume_pass_time(QUICK)
    app = until_done(open_test_image(with_run))
    assert not app.error
    assert "not where disease is. The stronger the blue" in page_text(app)
    assert "the randomi" in page_text(app)
    assert "the deletion and insertion check" in page_text(app)
    assert len(app.dataframe[0].value) == 7
    assert viewer_header(app)["map"] is not None
    assert len(app.image) == 1


def test_a_map_that_fails_its_check_is_withheld_with_a_sentence(
    with_run: str, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(QUICK)
    monkeypatch.setattr(Sanity, "follows_the_weights", False)
    app = until_done(open_test_image(with_run))
    assert "No map is shown, because it fails its sanity check: a model with random weights" in app.info[0].value
    assert viewer_header(app)["map"] is None
    assert not app.image
    assert len(app.dataframe[0].value) == 7  # the numbers behind it


@pytest.mark.usefixtures("passing_checks")
def test_long_work_waits_for_a_click(with_run: str, assume_pass_time: AssumePassTime) -> None:
    assume_pass_time(PassTime(1.0, 2.0))
    app = open_test_image(with_run)
    app = method_choice(app).set_value("integrated_gradients").run()
    assert viewer_header(app)["map"] is None
    make = find_button(app, "Explain")
    assert make.label == "Explain (about 10 min)"  # 6 maps of 84 s, 121 passes of 1 s
    make.click().run()
    until_done(app)
    assert viewer_header(app)["map"] is not None


class SlowWork:
    """Stands in for a saliency method: reports progress until it is cancelled."""

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    def __call__(self, *_: object, progress: Progress, **__: object) -> None:
        self.started.set()
        try:
            while True:
                progress("slow work", 1, 4)
                time.sleep(0.01)
        except Cancelled:
            self.cancelled.set()
            raise


@pytest.fixture
def slow_map(
    with_run: str, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> tuple[AppTest, SlowWork]:
    """The page while it makes a map that never ends by itself."""
    assume_pass_time(QUICK)
    work = SlowWork()
    monkeypatch.setattr("shpeft.explanation.saliency.checked.explain", work)
    app = open_test_image(with_run)
    assert work.started.wait(5)
    app.run()
    assert not work.cancelled.is_set()
    assert "Stop" in button_labels(app)
    assert "Slow work" in [part.proto.text for part in app.get("progress")]
    return app, work


def test_stop_ends_the_work_and_offers_it_again(slow_map: tuple[AppTest, SlowWork]) -> None:
    app, work = slow_map
    press(app, "Stop").run()
    assert work.cancelled.wait(5)
    assert "Stop" not in button_labels(app)
    assert viewer_header(app)["map"] is None
    work.started.clear()
    press(app, "Explain")
    assert work.started.wait(5)
    method_choice(app).set_value("saliency").run()


def test_work_that_the_page_no_longer_needs_is_cancelled(slow_map: tuple[AppTest, SlowWork]) -> None:
    app, work = slow_map
    method_choice(app).set_value("saliency").run()
    assert work.cancelled.wait(5)
    assert not app.error
    assert app.title[0].value


def test_an_answer_does_not_wait_for_the_map_of_the_image_before(slow_map: tuple[AppTest, SlowWork]) -> None:
    app, work = slow_map
    first = viewer_header(app)["image"]
    work.started.clear()
    press(app, "Next")
    assert work.cancelled.is_set()
    assert app.title[0].value
    assert viewer_header(app)["image"] != first
    assert work.started.wait(5)  # now its own
    press(app, "Stop")


@pytest.fixture
def own_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that no work of another test's page claims."""
    monkeypatch.setattr("shpeft.jobs.job_manager._managers", {})


@pytest.mark.usefixtures("own_manager")
def test_runs_give_way_while_the_page_waits_for_the_model(
    with_run: str, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(QUICK)
    work = SlowWork()
    monkeypatch.setattr("shpeft.explanation.saliency.checked.explain", work)
    app = open_test_image(with_run)
    assert work.started.wait(5)
    assert not manager().right_of_way._free.is_set()
    press(app, "Stop").run()
    assert work.cancelled.wait(5)
    assert manager().right_of_way._free.wait(5)


def test_work_of_a_closed_page_is_cancelled(
    slow_map: tuple[AppTest, SlowWork], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, work = slow_map
    monkeypatch.setattr(model_tasks, "ABANDONED_SECONDS", 0.1)
    assert work.cancelled.wait(5)


def test_weights_are_attributed(with_run: str, finished: RunFolder, assume_pass_time: AssumePassTime) -> None:
    assume_pass_time(QUICK)
    app = until_done(open_page("attribution", with_run, set_origin="Test images"))
    assert not app.error
    metrics = finished.metrics.read()
    assert metrics is not None
    selected = metrics["weights"]["selected"]
    assert f"The attributions of the {selected:,} trained weights add up to" in page_text(app)
    assert "residual is" in page_text(app)
    layers, weights = (frame.value for frame in app.dataframe if "score change" in frame.value)
    assert sum(layers["trained weights"]) == selected
    assert len(weights) == 20
    total = re.search(r"add up to ([+-][0-9.]+)", page_text(app))
    assert total is not None
    assert sum(layers["score change"]) == pytest.approx(float(total[1]), abs=1e-4)
    at_one = [part.value for part in app.markdown if part.value.startswith("At λ = 1.0")]
    app.select_slider(key="set_strength").set_value(0.0).run()
    at_zero = [part.value for part in app.markdown if part.value.startswith("At λ = 0.0")]
    assert len(at_one) == len(at_zero) == 1
    classes = finished.predictions.test().classes
    assert classes
    for name in classes:
        assert f"{name} **" in at_zero[0]


def test_a_method_that_the_model_does_not_support_is_a_sentence(
    with_run: str, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(QUICK)

    def refuse(*_: object, **__: object) -> None:
        raise DiagnosisError("Grad-CAM finds no layer. Choose another method.")

    monkeypatch.setattr("shpeft.explanation.saliency.checked.explain", refuse)
    app = until_done(open_test_image(with_run))
    assert [error.value for error in app.error] == ["Grad-CAM finds no layer. Choose another method."]
    monkeypatch.undo()
    until_done(method_choice(app).set_value("saliency").run())
    assert not app.error


# -- the viewer and the blinded reading


def viewer_header(app: AppTest) -> dict[str, Any]:
    """Return the header of the viewer's message."""
    (viewer,) = app.get("bidi_component")
    data = viewer.proto.bytes
    (length,) = struct.unpack_from("<I", data)
    header: dict[str, Any] = json.loads(data[4 : 4 + length])
    return header


@pytest.mark.usefixtures("passing_checks")
def test_the_map_stands_beside_the_image_and_follows_it(with_run: str, assume_pass_time: AssumePassTime) -> None:
    assume_pass_time(QUICK)
    app = until_done(open_test_image(with_run))
    first = viewer_header(app)
    assert "Where the score is sensitive, not where disease is." in first["map"]["caption"]
    until_done(press(app, "Next"))
    assert viewer_header(app)["image"] != first["image"]
    assert viewer_header(app)["map"] is not None


def test_a_reader_answers_before_the_model_does(with_run: str, finished: RunFolder) -> None:
    app = open_page("diagnose", with_run, set_read_first=True, set_origin="Test images", open_case=0)
    classes = list(finished.predictions.test().classes)
    assert viewer_header(app)["image"]
    assert app.title[0].value == "What do you see?"
    assert not app.get("download_button")
    assert "label" not in page_text(app).lower()
    assert "probabilit" not in page_text(app)
    press(app, "Save and show")
    assert [error.value for error in app.error] == ["Choose an answer first."]

    answered = 0
    for answer in (classes[0], classes[1]):
        assert app.title[0].value == "What do you see?"
        app.radio[0].set_value(answer)
        app.slider[0].set_value(80)
        press(app, "Save and show the model's answer")
        assert f"You: **{answer}**" in page_text(app)
        assert app.title[0].value != "What do you see?"
        answered += app.title[0].value != "No answer"
        press(app, "Next")
    readings = list(app.session_state["readings"][with_run].values()) if answered else []
    assert len(readings) == answered  # without an answer there is nothing to agree with
    assert app.session_state["findings"][with_run]
    press(app, "All images")
    assert "Cohen" not in page_text(app)


def test_agreement_is_shown_from_ten_readings_on(with_run: str) -> None:
    for count in (9, 10):
        readings = {str(n): Reading(str(n), "a", 50, "ab"[n % 2], 0.9) for n in range(count)}
        app = open_page("diagnose", with_run, set_read_first=True, set_origin="Test images")
        app.session_state["readings"] = {with_run: readings}
        app.run()
        agreed = "You and the model agree in **5 of 10** images; Cohen's κ is 0.00." in page_text(app)
        assert agreed == (count == 10)


def test_an_image_asks_for_no_answer_after_the_model_s_was_seen(with_run: str) -> None:
    app = open_test_image(with_run)
    title = app.title[0].value
    app.toggle(key="set_read_first").set_value(True).run()
    assert app.title[0].value == title
    assert "You have already seen the model's answer to this image" in page_text(app)
    press(app, "Next")
    assert app.title[0].value == "What do you see?"


# -- the answer


def test_without_an_answer_everything_else_is_behind_a_click_and_marked(
    with_run: str, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(QUICK)
    given: Callable[[Diagnosis], Answer] = vars(Diagnosis)["answer"].fget

    def withheld(diagnosis: Diagnosis) -> Answer:
        return replace(given(diagnosis), given=False, reasons=("It looks unlike the training images.",))

    monkeypatch.setattr(Diagnosis, "answer", property(withheld))
    app = open_test_image(with_run)
    assert app.title[0].value == "No answer"
    assert [warning.value for warning in app.warning] == ["It looks unlike the training images."]
    (behind,) = (part for part in app.expander if part.label == "What the model would say: not an answer")
    assert "**Not an answer.**" in behind.markdown[0].value
    outside = [part.value for part in app.markdown if part.value not in [inner.value for inner in behind.markdown]]
    assert "Still possible" not in "".join(outside)


def test_an_answer_comes_with_what_is_still_possible(with_run: str, assume_pass_time: AssumePassTime) -> None:
    assume_pass_time(QUICK)
    app = open_test_image(with_run)
    answer = diagnosed(with_run).answer
    assert app.title[0].value == answer.headline
    assert answer.probability_sentence in page_text(app)
    assert ("Still possible" in page_text(app)) == bool(answer.still_possible)


def diagnosed(run: str) -> Diagnosis:
    """Return the diagnosis of the run's first test image."""
    folder = find_run(run)
    test = load_dataset(folder.config.dataset.source, seed=folder.config.seed).test
    with load_run(folder, "cpu") as loaded:
        return diagnose(
            loaded.backbone, test.image(0), reliability=loaded.reliability, ood_detector=loaded.ood_detector
        )


def test_changed_rules_are_used_without_loading_the_model_again(
    own_run: RunFolder, assume_pass_time: AssumePassTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_pass_time(PassTime(1.0, 2.0))  # no map
    used = list[AnyReliability | None]()

    def diagnose_with(*args: Any, **options: Any) -> Diagnosis:
        used.append(options["reliability"])
        return diagnose(*args, **options)

    monkeypatch.setattr("app.views.diagnose.saliency.diagnose", diagnose_with)
    open_test_image(own_run.name)
    monkeypatch.setattr(model_tasks, "load_run", lambda *_: pytest.fail("loaded again"))
    app = open_page("evaluate", own_run.name)
    next(field for field in app.number_input if field.label == "Coverage").set_value(0.8).run()
    open_test_image(own_run.name)
    before, after = used
    assert after == own_run.reliability.read() != before


def test_no_list_is_taken_for_an_earlier_one_that_is_gone() -> None:
    assert len({Worklist().identity for _ in range(100)}) == 100

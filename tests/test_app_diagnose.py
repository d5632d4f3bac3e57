"""The Diagnose page without a browser: maps and their badge, the attribution to weights, and what waits to be asked."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import json
import re
import struct
from collections.abc import Callable, Iterator

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from shpeft.errors import DiagnosisError
from shpeft.saliency import Pace
from tests.test_app import _own_settings, finished, opened, runs, with_run, words


def overlay(app: AppTest):
    """The toggle that asks for a map of the present image."""
    return next(toggle for toggle in app.toggle if toggle.label == "Show where the score is sensitive")


def diagnosing(run: str) -> AppTest:
    """The first test image under diagnosis."""
    app = opened("diagnose", run)
    return app.segmented_control(key="set_origin").set_value("A test image of this run").run()


@pytest.fixture
def timed(monkeypatch) -> Iterator[Callable[[Pace], None]]:
    """Makes the app believe that models are as fast as is said."""

    def believe(pace: Pace) -> None:
        streamlit.cache_resource.clear()
        monkeypatch.setattr("shpeft.saliency.Pace.measure", lambda _: pace)

    yield believe
    streamlit.cache_resource.clear()


def test_a_quick_map_is_checked_at_once_and_its_badge_says_what_was_found(with_run, timed):
    timed(Pace(1e-4, 1e-4))
    app = overlay(diagnosing(with_run)).set_value(True).run()
    assert not app.error
    assert "sanity check" in words(app)
    assert "the randomisation check" in words(app)
    assert "the deletion and insertion check" in words(app)
    assert len(app.dataframe[0].value) == 7


def test_long_work_waits_until_it_is_asked_for(with_run, timed):
    timed(Pace(1.0, 2.0))
    app = overlay(diagnosing(with_run)).set_value(True).run()
    app.selectbox(key="set_method").set_value("integrated_gradients").run()
    assert shown(app)["map"] is None
    start = next(button for button in app.button if button.label.startswith("Make the map"))
    assert start.label == "Make the map (about 1 min)"  # 40 passes of 2 s and 4 of 1 s
    start.click().run()
    assert shown(app)["map"] is not None
    assert "the randomisation check" not in words(app)
    check = next(button for button in app.button if button.label.startswith("Check this map"))
    assert check.label == "Check this map (about 10 min)"  # 5 maps of 84 s and 201 passes of 1 s


def test_the_fine_tuning_is_shared_out_among_the_trained_weights(with_run, finished, timed):
    timed(Pace(1e-4, 1e-4))
    app = diagnosing(with_run)
    assert "moved the score" not in words(app)
    app.toggle(key="set_weights").set_value(True).run()
    assert not app.error
    selected = finished.metrics()["weights"]["selected"]
    assert f"The parts of the {selected:,} trained weights add up to" in words(app)
    assert "the residual is" in words(app)
    layers, weights = app.dataframe[1].value, app.dataframe[2].value
    assert sum(layers["trained weights"]) == selected
    assert len(weights) == 20
    parts = re.search(r"add up to ([+-][0-9.]+)", words(app))
    assert sum(layers["change of the score"]) == pytest.approx(float(parts[1]), abs=1e-4)
    at_one = [part.value for part in app.markdown if part.value.startswith("At λ = 1.0")]
    app.select_slider(key="set_strength").set_value(0.0).run()
    at_zero = [part.value for part in app.markdown if part.value.startswith("At λ = 0.0")]
    assert len(at_one) == len(at_zero) == 1
    for name in finished.predictions().classes:
        assert f"{name} **" in at_zero[0]


def test_a_method_that_the_model_does_not_allow_is_a_sentence(with_run, timed, monkeypatch):
    timed(Pace(1e-4, 1e-4))

    def refuse(*_: object, **__: object) -> None:
        raise DiagnosisError("Grad-CAM finds no layer. Choose another method.")

    app = diagnosing(with_run)
    monkeypatch.setattr("shpeft.diagnosis.explain", refuse)
    overlay(app).set_value(True).run()
    assert [error.value for error in app.error] == ["Grad-CAM finds no layer. Choose another method."]
    overlay(app).set_value(False).run()
    assert not app.error


# -- the viewer and reading first


def shown(app: AppTest) -> dict:
    """What the viewer's page is told of the image."""
    (viewer,) = app.get("bidi_component")
    (length,) = struct.unpack_from("<I", viewer.proto.bytes)
    return json.loads(viewer.proto.bytes[4 : 4 + length])


def test_the_overlay_is_off_for_each_new_image(with_run, timed):
    timed(Pace(1e-4, 1e-4))
    app = diagnosing(with_run)
    assert overlay(app).value is False
    assert shown(app)["map"] is None
    overlay(app).set_value(True).run()
    assert "Where the score is sensitive, not where disease is." in shown(app)["map"]["caption"]
    app.number_input[0].set_value(2).run()
    assert overlay(app).value is False
    assert shown(app)["map"] is None


def test_a_reader_answers_before_the_model_does(with_run, finished):
    app = opened("diagnose", with_run, set_read_first=True, set_origin="A test image of this run")
    classes = list(finished.predictions().classes)
    assert shown(app)["image"]
    assert not app.metric
    assert not app.get("download_button")
    assert "label" not in words(app)
    assert "probabilit" not in words(app)
    app.button[0].click().run()
    assert [error.value for error in app.error] == ["Choose an answer first."]
    assert not app.metric

    for number, answer in enumerate((classes[0], classes[1]), 1):
        app.number_input[0].set_value(number).run()
        assert not app.metric
        app.radio[0].set_value(answer)
        app.slider[0].set_value(80)
        next(button for button in app.button if button.label.startswith("Write it down")).click().run()
        you, model = app.metric[0].value, app.metric[1].value
        assert you == answer
        assert model == app.metric[2].value  # the prediction, as ever
        assert ("You agree" in words(app)) == (you == model)
    assert re.search(r"agree in \*\*[0-2] of 2\*\* images; Cohen's κ is", words(app))
    assert len(list(app.session_state["readings"][with_run].values())) == 2


def test_an_image_whose_answer_was_seen_is_not_asked_for(with_run):
    app = diagnosing(with_run)
    assert app.metric
    app.toggle(key="set_read_first").set_value(True).run()
    assert app.metric
    assert "You have seen the model's answer to this image already" in words(app)
    app.number_input[0].set_value(2).run()
    assert not app.metric

"""Pages of a run that predicts a number, without a browser."""

from pathlib import Path

import pytest

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.evaluation import IntervalReliability
from shpeft.evaluation.reader_agreement import NumberReading
from shpeft.runs import RunFolder
from tests.helpers.app_pages import PAGES, TINY, open_page, open_test_image, page_text, until_done
from tests.helpers.number_tables import write_numbers

LACKING = ("AUROC", "Threshold", "threshold", "Temperature", "accuracy", "abstain", "Still possible", "Must not be")
"""What a number does not have."""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("numbers")
    dataset = {"source": str(write_numbers(root / "images", 72)), "task": "regression"}
    dataset["columns"] = "label=brightness"
    folder = RunFolder.create(root / "runs" / "numbers", RunConfig.parse(TINY | {"dataset": dataset}))
    pipeline.run(folder.config, folder)
    return folder


@pytest.fixture(autouse=True)
def _seen(numbers: RunFolder, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(numbers.path.parent))


@pytest.mark.parametrize("page", PAGES[1:])
def test_every_page_shows_the_run_without_what_it_lacks(page: str, numbers: RunFolder) -> None:
    app = open_page(page, numbers.name)
    assert not app.error
    if page in ("train", "evaluate", "diagnose"):
        text = page_text(app)
        assert not [word for word in LACKING if word in text]
    if page == "runs":
        row = app.dataframe[0].value.iloc[0]
        assert "Predicts brightness" in str(row["result"])
        assert row["measure"] == "MAE, %"
        metrics = numbers.metrics.read()
        assert metrics is not None
        assert row["value"] == metrics["finetuned"]["mae"]["value"]
        assert " to " in row["95 % interval"]


def test_another_coverage_is_saved(numbers: RunFolder) -> None:
    before = numbers.reliability.read()
    assert isinstance(before, IntervalReliability)
    app = open_page("evaluate", numbers.name)
    slider = next(control for control in app.select_slider if control.label.startswith("How many intervals"))
    slider.set_value(0.8).run()
    assert not app.exception
    after = numbers.reliability.read()
    assert isinstance(after, IntervalReliability)
    assert after.rules.coverage == 0.8
    assert after.shown_width in page_text(app)


def test_a_case_is_a_number_and_the_reader_gives_one(numbers: RunFolder) -> None:
    app = until_done(open_test_image(numbers.name))
    text = page_text(app)
    assert not app.error
    assert "% interval" in text or "No answer" in text
    assert not [word for word in LACKING if word in text]
    own = next(control for control in app.number_input if control.label == "Your brightness (%)")
    own.set_value(41.5).run()
    assert not app.exception
    assert app.session_state["findings"][numbers.name]


def test_a_reader_s_numbers_and_the_model_s_agree_within_limits(numbers: RunFolder) -> None:
    for count in (9, 10):
        readings = {str(n): NumberReading(str(n), "brightness", "%", 50.0, 50, 49.0 + n % 2) for n in range(count)}
        app = open_page("diagnose", numbers.name, set_read_first=True, set_origin="Test images")
        app.session_state["readings"] = {numbers.name: readings}
        app.run()
        assert not app.exception
        agreed = "The model minus you: bias -0.5 %, limits of agreement -1.5 to 0.5 %" in page_text(app)
        assert agreed == (count == 10)

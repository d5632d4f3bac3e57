"""Pages of a finished run without a browser; errors as sentences."""

import io

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from shpeft import evaluation
from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.pipeline import set_decision_rules
from shpeft.runs import RunFolder
from tests.helpers.app_pages import PAGES, open_page, page_text, press, run_in_address
from tests.helpers.present import present, single_label


@pytest.mark.parametrize("page", PAGES[1:])
def test_every_page_shows_a_finished_run(page: str, with_run: str) -> None:
    app = open_page(page, with_run)
    assert not app.error
    assert run_in_address(app) == with_run


def test_the_result_is_next_to_the_linear_probe(with_run: str, finished: RunFolder) -> None:
    metrics = finished.metrics.read()
    assert metrics is not None
    text = page_text(open_page("train", with_run))
    for model in ("finetuned", "probe"):
        assert f"{metrics[model]['balanced_accuracy']['value']:.3f} [" in text
    assert f"{metrics['weights']['selected']:,} of {metrics['weights']['backbone']:,} backbone weights" in text


@pytest.mark.parametrize("page", ["train", "evaluate", "runs"])
def test_the_address_of_a_renamed_run_lists_the_existing_runs(page: str, with_run: str, finished: RunFolder) -> None:
    app = open_page(page, "old-name")
    messages = [str(part.value) for kind in (app.warning, app.info, app.error) for part in kind]
    assert any(
        f"no run called old-name; it may have been renamed or deleted. There are {with_run}." in m for m in messages
    )
    assert str(finished.path.parent) not in "".join(messages)


def test_an_address_cannot_lead_out_of_the_runs(with_run: str) -> None:
    assert "cannot be a run's name" in open_page("train", "../tiny").warning[0].value


def test_an_uploaded_image_is_diagnosed_without_its_name(with_run: str, finished: RunFolder) -> None:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "PNG")
    app = open_page("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.png", data.getvalue(), "image/png").run()
    assert not app.error
    assert app.title[0].value in (*finished.predictions.test().classes, "No answer")
    assert "MUELLER" not in page_text(app) + str(app)


def test_an_upload_that_is_not_an_image_is_a_sentence(with_run: str) -> None:
    app = open_page("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.txt", b"no image", "text/plain").run()
    assert app.title[0].value == "Cannot be read"
    assert app.error[0].value.startswith("The uploaded file cannot be read as an image")


def test_a_threshold_is_saved_as_it_is_chosen_and_can_be_undone(own_run: RunFolder) -> None:
    app = open_page("evaluate", own_run.name)
    before = single_label(own_run.reliability.read())
    assert app.header[0].value == before.headline
    assert "Undo" not in [button.label for button in app.button]
    app.selectbox(key=f"positive-{own_run.name}-0").set_value("exudates").run()
    assert not app.error
    saved = single_label(own_run.reliability.read())
    point = present(saved.operating)
    assert (point.rule.positive, point.rule.rule, point.rule.target) == ("exudates", "sensitivity", 0.95)
    assert app.header[0].value == saved.headline
    assert present(point.bound).sentence in page_text(app)
    assert f"{point.threshold:.3f}" in page_text(app)
    assert open_page("evaluate", own_run.name).selectbox(key=f"positive-{own_run.name}-0").value == "exudates"
    press(app, "Undo")
    assert own_run.reliability.read() == before
    assert app.selectbox(key=f"positive-{own_run.name}-1").value == "None"
    assert app.header[0].value == before.headline
    assert "Undo" not in [button.label for button in app.button]


def test_opening_the_page_changes_no_rule(own_run: RunFolder) -> None:
    rules = DecisionRules(ThresholdRule("exudates", "sensitivity", 0.9, prevalence=0.2, cost_ratio=3.0))
    set_decision_rules(own_run, rules)
    app = open_page("evaluate", own_run.name)
    assert single_label(own_run.reliability.read()).rules == rules
    app.number_input(key=f"coverage-{own_run.name}-0").set_value(0.8).run()
    assert single_label(own_run.reliability.read()).rules.sets.coverage == 0.8


def test_rates_of_the_gate_are_shown(own_run: RunFolder) -> None:
    rates = present(present(single_label(own_run.reliability.read()).test).gate)
    tables = [table.value for table in open_page("evaluate", own_run.name).dataframe]
    gate = next(table for table in tables if "images" in table and "no answer" in list(table["images"]))
    assert dict(zip(gate["images"], gate["test"], strict=True))["no answer"] == rates.no_answer.counts
    others = next(table for table in tables if "images of other kinds" in table)
    assert dict(zip(others["images of other kinds"], others["no answer"], strict=True)) == {
        kind: share.counts for kind, share in rates.others.items()
    }


def test_impossible_settings_are_a_sentence(own_run: RunFolder) -> None:
    app = open_page("evaluate", own_run.name)
    before = own_run.reliability.read()
    app.segmented_control(key=f"by-{own_run.name}-0").set_value("risk").run()
    app.number_input(key=f"abstention-risk-{own_run.name}-0").set_value(0.0).run()
    validation = own_run.predictions.validation()
    assert validation is not None
    lowest_risk = evaluation.risk_coverage(validation).risk.min()
    assert bool(app.error) == (lowest_risk > 0)
    assert (own_run.reliability.read() == before) == bool(app.error)


def test_the_images_behind_a_cell_are_shown(with_run: str, finished: RunFolder) -> None:
    predictions = finished.predictions.test()
    true = predictions.classes[predictions.labels[0]]
    guess = predictions.classes[int(predictions.probabilities[0].argmax())]
    app = open_page("evaluate", with_run)
    app.selectbox(key="cell").set_value(f"{true}, predicted {guess}").run()
    assert not app.error
    count = len(evaluation.cases_in_cell(predictions, true, guess))
    assert f"{count} test images with the uncalibrated probability" in page_text(app)


def test_a_run_of_an_older_version_is_evaluated_as_far_as_possible(own_run: RunFolder) -> None:
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors", "novelty.csv"):
        (own_run.path / name).unlink()
    app = open_page("evaluate", own_run.name)
    assert "made by an older version" in page_text(app)
    assert "AUROC" in [metric.label for metric in app.metric]
    press(app, "Predict the validation images")
    assert "Temperature" in [metric.label for metric in app.metric]
    assert own_run.reliability.read() is not None


def test_gate_of_a_run_of_an_older_version_can_be_measured(own_run: RunFolder) -> None:
    rules = DecisionRules(ThresholdRule("exudates"))
    set_decision_rules(own_run, rules)
    (own_run.path / "novelty.csv").unlink()
    set_decision_rules(own_run, rules)
    app = open_page("evaluate", own_run.name)
    assert "did not measure what gets no answer" in page_text(app)
    press(app, "Measure it")
    reliability = single_label(own_run.reliability.read())
    assert reliability.rules == rules
    assert present(reliability.test).gate is not None
    assert "did not measure what gets no answer" not in page_text(app)


def _with_errors(kind: str) -> None:
    from app.widgets import layout
    from shpeft.errors import DatasetError

    with layout.error_boundary():
        raise (
            DatasetError("the folder is empty. Choose another.")
            if kind == "expected"
            else KeyError("/home/x/MUELLER.png")
        )


@pytest.mark.parametrize("kind", ["expected", "bug"])
def test_an_expected_error_is_a_sentence_and_anything_else_is_a_bug(kind: str) -> None:
    app = AppTest.from_function(_with_errors, args=(kind,), default_timeout=60).run()
    assert not app.exception
    if kind == "expected":
        assert app.error[0].value == "The folder is empty. Choose another."
        assert not app.expander
    else:
        assert "bug in shpeft (KeyError)" in app.error[0].value
        assert app.expander[0].label == "Details for a report"
        assert "MUELLER" not in app.code[0].value

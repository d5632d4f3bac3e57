"""The pages Train, Evaluate and Diagnose of a finished run, without a browser; errors as sentences."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import io

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from shpeft import trust
from tests.test_app import PAGES, _own_settings, finished, looked_at, opened, own_run, pressed, runs, with_run, words


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_a_finished_run(page, with_run):
    app = opened(page, with_run)
    assert not app.error
    assert looked_at(app) == with_run


def test_the_result_stands_beside_the_linear_probe(with_run, finished):
    metrics = finished.metrics()
    text = words(opened("train", with_run))
    for model in ("finetuned", "probe"):
        assert f"{metrics[model]['macro_auroc']['value']:.3f} [" in text
    assert f"{metrics['weights']['selected']:,} of {metrics['weights']['backbone']:,} backbone weights" in text


@pytest.mark.parametrize("page", ["train", "evaluate", "runs"])
def test_an_address_of_a_run_that_was_renamed_tells_which_there_are(page, with_run, finished):
    app = opened(page, "old-name")
    said = [str(part.value) for kind in (app.warning, app.info, app.error) for part in kind]
    assert any(f"no run called old-name; it may have been renamed or deleted. There are {with_run}." in s for s in said)
    assert str(finished.path.parent) not in "".join(said)


def test_an_address_cannot_lead_out_of_the_runs(with_run):
    assert "cannot be a run's name" in opened("train", "../tiny").warning[0].value


def test_an_uploaded_image_is_diagnosed_without_its_name(with_run, finished):
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "PNG")
    app = opened("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.png", data.getvalue(), "image/png").run()
    assert not app.error
    assert app.metric[0].value in finished.predictions().classes
    assert "MUELLER" not in words(app) + str(app)


def test_an_upload_that_is_no_image_is_a_sentence(with_run):
    app = opened("diagnose", with_run)
    app.file_uploader[0].upload("MUELLER.txt", b"no image", "text/plain").run()
    assert app.error[0].value.startswith("The uploaded file cannot be read as an image")
    assert "Upload another file, or this one exported anew." in [caption.value for caption in app.caption]
    assert not app.metric


def test_a_threshold_is_chosen_and_kept(own_run):
    app = opened("evaluate", own_run.name)
    assert "These choices are kept with the run" in words(app)
    app.selectbox(key=f"positive-{own_run.name}").set_value("exudates").run()
    assert not app.error
    assert own_run.trust().operating is None
    pressed(app, "Keep these choices with the run")
    point = own_run.trust().operating
    assert point.rule.positive == "exudates"
    assert f"{point.threshold:.3f}" in words(app)
    assert "These choices are kept with the run" in words(app)
    assert opened("evaluate", own_run.name).selectbox(key=f"positive-{own_run.name}").value == "exudates"


def test_choices_that_lead_to_nothing_are_a_sentence(own_run):
    app = opened("evaluate", own_run.name)
    app.segmented_control(key=f"by-{own_run.name}").set_value("risk").run()
    app.number_input(key=f"abstention-risk-{own_run.name}").set_value(0.0).run()
    surest = trust.risk_coverage(own_run.validation()).risk.min()
    assert bool(app.error) == (surest > 0)
    assert "These choices are kept with the run" in words(app) or not app.error


def test_the_images_behind_a_cell_are_shown(with_run, finished):
    found = finished.predictions()
    true, guess = found.classes[found.labels[0]], found.classes[int(found.probabilities[0].argmax())]
    app = opened("evaluate", with_run)
    app.selectbox(key="cell").set_value(f"{true}, taken for {guess}").run()
    assert not app.error
    assert f"{len(trust.cases_in(found, true, guess))} test images; below each" in words(app)


def test_a_run_of_an_older_version_is_evaluated_as_far_as_it_goes(own_run):
    for name in ("trust.json", "predictions_val.csv", "novelty.safetensors"):
        (own_run.path / name).unlink()
    app = opened("evaluate", own_run.name)
    assert "made by an older version" in words(app)
    assert "AUROC" in [metric.label for metric in app.metric]
    pressed(app, "Run the model over its validation images")
    assert "Temperature" in [metric.label for metric in app.metric]
    assert own_run.trust() is not None


def _with_errors(kind: str) -> None:
    import shared

    from shpeft.errors import DatasetError

    with shared.boundary():
        raise (
            DatasetError("the folder is empty. Choose another.")
            if kind == "expected"
            else KeyError("/home/x/MUELLER.png")
        )


@pytest.mark.parametrize("kind", ["expected", "bug"])
def test_an_expected_error_is_a_sentence_and_anything_else_is_a_bug(kind):
    app = AppTest.from_function(_with_errors, args=(kind,), default_timeout=60).run()
    assert not app.exception
    if kind == "expected":
        assert app.error[0].value == "The folder is empty. Choose another."
        assert not app.expander
    else:
        assert "bug in shpeft (KeyError)" in app.error[0].value
        assert app.expander[0].label == "Details for a report"
        assert "MUELLER" not in app.code[0].value

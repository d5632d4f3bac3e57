"""The pages Importance and Overlap without a browser: other budgets, two scores, one matrix, several runs."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import shutil

import pytest
from streamlit.testing.v1 import AppTest

from shpeft import pipeline
from shpeft.config import RunConfig
from shpeft.runs import RunFolder
from tests.test_app import TINY, _own_settings, finished, opened, own_run, runs, with_run, words


def with_budget(run: str, k: int) -> AppTest:
    app = opened("importance", run)
    return app.number_input(key=f"budget-{run}").set_value(k).run()


def test_another_budget_is_counted_without_the_model(with_run, finished):
    own, rankings = finished.support().k, finished.rankings()
    app = opened("importance", with_run)
    assert f"**{own:,} weights**: half of them lie in" in words(app)
    app = with_budget(with_run, 7)
    assert not app.error
    assert f"**7 weights** (the run trained {own:,})" in words(app)
    table = app.dataframe[0].value
    assert table["chosen"].sum() == 7
    assert list(table["chosen"]) == list(rankings.counts("hybrid", 7).values())
    assert app.select_slider(key=f"step-{with_run}").value == 7
    app = app.select_slider(key=f"step-{with_run}").set_value(2).run()
    assert app.dataframe[0].value["chosen"].sum() == app.number_input(key=f"budget-{with_run}").value == 2
    reset = next(button for button in app.button if button.label == "Reset")
    assert reset.click().run().dataframe[0].value["chosen"].sum() == own


def test_a_budget_beyond_what_is_kept_is_a_sentence_and_no_guess(with_run, finished):
    app = with_budget(with_run, finished.rankings().reach + 1)
    assert "says nothing of a budget of" in app.error[0].value
    assert app.dataframe[0].value["chosen"].sum() == finished.support().k


def test_a_run_of_an_older_version_opens_with_a_sentence(own_run):
    (own_run.path / "details.npz").unlink()
    app = opened("importance", own_run.name, layer="blocks.0.attn.qkv.weight")
    assert not app.error
    assert "before rankings were kept" in app.info[0].value
    assert "before scores were kept by attention head" in words(app)
    app = opened("overlap", own_run.name)
    assert not app.error
    assert "before rankings were kept" in words(app)


def test_two_scores_stand_side_by_side(with_run, finished):
    app = opened("importance", with_run)
    app = app.selectbox(key=f"beside-{with_run}-hybrid").set_value("Task-agnostic").run()
    assert not app.error
    table = app.dataframe[0].value
    assert list(table["chosen beside"]) == [s.selected for s in finished.summaries("task-agnostic")]
    assert "The size of the pretrained weight" in words(app)


@pytest.mark.parametrize("name", ["blocks.0.attn.qkv.weight", "blocks.1.attn.proj.weight", "blocks.0.mlp.fc1.weight"])
def test_a_matrix_is_shown_from_inside(with_run, finished, name):
    app = opened("importance", with_run, layer=name)
    assert not app.error
    layer = next(s for s in finished.summaries() if s.name == name)
    assert f"{layer.selected:,} of {layer.numel:,}" in words(app)
    tables = [frame.value for frame in app.dataframe]
    assert tables[1]["weights"].sum() == layer.numel
    heads = [table for table in tables if "head" in table]
    assert len(heads) == ("attn" in name)
    assert ("No attention heads share this matrix" in words(app)) == ("attn" not in name)
    for table in heads:
        assert table["chosen"].sum() == layer.selected
        assert table["weights"].sum() == layer.numel


def test_heads_and_places_follow_the_slider(with_run, finished):
    name = "blocks.1.attn.proj.weight"
    app = opened("importance", with_run, layer=name)
    step = app.select_slider(key=f"step-{with_run}")
    k = finished.fields().steps[-5].item()
    assert k < 0.9 * finished.support().k
    app = step.set_value(k).run()
    count = finished.rankings().counts("hybrid", k)[name]
    assert f"Of the {k:,} weights that this score chooses." in words(app)
    heads, places = (next(t.value for t in app.dataframe if column in t.value) for column in ("head", "rows from"))
    assert heads["chosen"].sum() == places["chosen"].sum() == count > 0
    app = opened("importance", with_run, layer=name).number_input(key=f"budget-{with_run}").set_value(k - 1).run()
    assert f"nearest to {k - 1:,} weights" in words(app)


def test_a_run_without_grids_says_that_heads_keep_to_its_budget(own_run):
    rankings, heads = own_run.rankings(), {"hybrid": own_run.heads()}
    own_run.write_details(rankings, heads, {})
    app = opened("importance", own_run.name, layer="blocks.0.attn.qkv.weight")
    app = app.number_input(key=f"budget-{own_run.name}").set_value(rankings.reach // 2).run()
    assert not app.error
    assert "before the places of others were kept" in words(app)
    table = next(frame.value for frame in app.dataframe if "head" in frame.value)
    own = own_run.support().indices["blocks.0.attn.qkv.weight"]
    assert table["chosen"].sum() == len(own) > 0


@pytest.fixture
def several(own_run) -> list[RunFolder]:
    """The run, its copy under another name, and one of another backbone."""
    place = own_run.path.parent
    shutil.copytree(own_run.path, place / "twin")
    other = {**TINY, "backbone": {**TINY["backbone"], "name": "test_vit2"}}
    folder = RunFolder.create(place / "other", RunConfig.parse(other))
    pipeline.run(folder.config, folder)
    return [own_run, RunFolder.open(place / "twin"), folder]


def test_runs_are_compared_and_other_backbones_refused(several):
    run, twin, other = several
    app = opened("overlap", run.name, set_overlap="across")
    assert not app.error
    assert set(app.multiselect[0].value) == {run.name, twin.name}
    k = run.support().k
    assert f"**{k:,}** weights were chosen by all 2 runs" in words(app)
    pairs, sets, *_ = (frame.value for frame in app.dataframe)
    assert (pairs["shared"][0], pairs["Jaccard"][0]) == (k, 1)
    assert list(sets["weights"]) == [k]
    assert len(app.dataframe[-1].value) == min(k, 1000)
    app = app.multiselect[0].set_value([run.name, other.name]).run()
    assert f"{run.name}: test_vit; {other.name}: test_vit2" in app.error[0].value

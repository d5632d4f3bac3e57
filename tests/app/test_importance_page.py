"""The Importance and Overlap pages without a browser: other budgets, two scores, one matrix, several runs."""

import json
import shutil
import struct
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.runs import RunFolder
from shpeft.selection.ranking import Rankings
from tests.helpers.app_pages import TINY, open_page, page_text


def with_budget(run: str, k: int) -> AppTest:
    """Open the Importance page with another budget."""
    app = open_page("importance", run)
    app = app.number_input(key=f"budget-{run}").set_value(k).run()
    return app


def rankings_of(run: RunFolder) -> Rankings:
    """Return the run's rankings."""
    rankings = run.scores.rankings()
    assert rankings is not None
    return rankings


def test_another_budget_selects_again_without_the_model(with_run: str, finished: RunFolder) -> None:
    own, rankings = finished.scores.support().k, rankings_of(finished)
    app = open_page("importance", with_run)
    assert f"**{own:,} weights**: half of them are in" in page_text(app)
    app = with_budget(with_run, 7)
    assert not app.error
    assert f"**7 weights** (the run trained {own:,})" in page_text(app)
    table = app.dataframe[0].value
    assert table["selected"].sum() == 7
    assert list(table["selected"]) == list(rankings.counts("hybrid", 7).values())
    header, *_ = map_parts(app)
    assert header["steps"][header["step"]] == 7
    reset = next(button for button in app.button if button.label == "Reset")
    assert reset.click().run().dataframe[0].value["selected"].sum() == own


def map_parts(app: AppTest) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """Return the header and the three arrays of the map's message."""
    (component,) = app.get("bidi_component")
    data = component.proto.bytes
    (length,) = struct.unpack_from("<I", data)
    header: dict[str, Any] = json.loads(data[4 : 4 + length])
    numbers, steps = np.frombuffer(data[4 + length :], "<u4"), len(header["steps"])
    starts = numbers[: steps + 1]
    cells, counts = np.split(numbers[steps + 1 :], 2)
    assert len(cells) == len(counts) == starts[-1]
    return header, starts, cells, counts


@pytest.mark.parametrize("score", ["hybrid", "task-specific", "task-agnostic"])
def test_the_map_lights_the_weights_that_each_budget_selects(with_run: str, finished: RunFolder, score: str) -> None:
    app = open_page("importance", with_run)
    app.segmented_control[0].set_value(score).run()
    header, starts, cells, counts = map_parts(app)
    rankings = rankings_of(finished)
    edges = np.cumsum([0] + [matrix["down"] * matrix["across"] for matrix in header["matrices"]])
    for step in (0, header["step"], len(header["steps"]) - 1):
        lit = slice(0, starts[step + 1])
        totals = np.histogram(cells[lit], edges, weights=counts[lit])[0].astype(int)
        expected = rankings.counts(score, header["steps"][step])
        assert dict(zip([m["name"] for m in header["matrices"]], totals.tolist(), strict=True)) == expected
    assert header["steps"][header["step"]] == finished.scores.support().k


def test_a_budget_beyond_the_saved_rankings_is_a_sentence(with_run: str, finished: RunFolder) -> None:
    app = with_budget(with_run, rankings_of(finished).reach + 1)
    assert "is not among them" in app.error[0].value
    assert app.dataframe[0].value["selected"].sum() == finished.scores.support().k


def test_a_run_of_an_older_version_opens_with_a_sentence(own_run: RunFolder) -> None:
    (own_run.path / "details.npz").unlink()
    app = open_page("importance", own_run.name, layer="blocks.3.attn.qkv.weight")
    assert not app.error
    assert "older version" in app.info[0].value
    assert "without scores by attention head" in page_text(app)
    app = open_page("overlap", own_run.name)
    assert not app.error
    assert "has no rankings" in page_text(app)


def test_two_scores_are_shown_side_by_side(with_run: str, finished: RunFolder) -> None:
    app = open_page("importance", with_run)
    app = app.selectbox(key=f"beside-{with_run}-hybrid").set_value("Task-agnostic").run()
    assert not app.error
    table = app.dataframe[0].value
    assert list(table["selected, other"]) == [s.selected for s in finished.scores.summaries("task-agnostic")]
    assert "The size of the pretrained weight" in page_text(app)


@pytest.mark.parametrize("name", ["blocks.3.attn.qkv.weight", "blocks.4.attn.proj.weight", "blocks.3.mlp.fc1.weight"])
def test_a_matrix_is_shown_in_detail(with_run: str, finished: RunFolder, name: str) -> None:
    app = open_page("importance", with_run, layer=name)
    assert not app.error
    layer = next(s for s in finished.scores.summaries() if s.name == name)
    assert f"{layer.selected:,} of {layer.numel:,}" in page_text(app)
    tables = [frame.value for frame in app.dataframe]
    assert tables[1]["weights"].sum() == layer.numel
    heads = [table for table in tables if "head" in table]
    assert len(heads) == ("attn" in name)
    assert ("This matrix has no attention heads" in page_text(app)) == ("attn" not in name)
    for table in heads:
        assert table["selected"].sum() == layer.selected
        assert table["weights"].sum() == layer.numel


def test_heads_and_positions_follow_the_budget(with_run: str, finished: RunFolder) -> None:
    name = "blocks.4.attn.proj.weight"
    app = open_page("importance", with_run, layer=name)
    grids = finished.scores.grids()
    assert grids is not None
    k = grids.steps[-5].item()
    assert k < 0.9 * finished.scores.support().k
    app = app.number_input(key=f"budget-{with_run}").set_value(k).run()
    count = rankings_of(finished).counts("hybrid", k)[name]
    assert f"The {k:,} weights that this score selects." in page_text(app)
    heads, positions = (next(t.value for t in app.dataframe if column in t.value) for column in ("head", "rows from"))
    assert heads["selected"].sum() == positions["selected"].sum() == count > 0
    app = open_page("importance", with_run, layer=name).number_input(key=f"budget-{with_run}").set_value(k - 1).run()
    assert f"nearest to {k - 1:,} weights" in page_text(app)


def test_a_run_without_grids_shows_heads_at_its_own_budget(own_run: RunFolder) -> None:
    rankings, heads = rankings_of(own_run), {"hybrid": own_run.scores.heads()}
    own_run.scores.write_details(rankings, heads, {})
    app = open_page("importance", own_run.name, layer="blocks.3.attn.qkv.weight")
    app = app.number_input(key=f"budget-{own_run.name}").set_value(rankings.reach // 2).run()
    assert not app.error
    assert "with the run's own budget, independent of the slider" in page_text(app)
    table = next(frame.value for frame in app.dataframe if "head" in frame.value)
    own = own_run.scores.support().indices["blocks.3.attn.qkv.weight"]
    assert table["selected"].sum() == len(own) > 0


@pytest.fixture
def several(own_run: RunFolder) -> list[RunFolder]:
    """The run, its copy under another name, and one of another backbone."""
    parent = own_run.path.parent
    shutil.copytree(own_run.path, parent / "twin")
    other = {**TINY, "backbone": {**TINY["backbone"], "name": "test_vit2"}}
    folder = RunFolder.create(parent / "other", RunConfig.parse(other))
    pipeline.run(folder.config, folder)
    return [own_run, RunFolder.open(parent / "twin"), folder]


def test_runs_of_one_backbone_are_compared(several: list[RunFolder]) -> None:
    run, twin, other = several
    app = open_page("overlap", run.name, set_overlap="across")
    assert not app.error
    assert set(app.multiselect[0].value) == {run.name, twin.name}
    k = run.scores.support().k
    assert f"All 2 runs selected the same **{k:,}** weights" in page_text(app)
    blocks, pairs, sets, *_ = (frame.value for frame in app.dataframe)
    assert blocks[run.name].sum() == pytest.approx(1)
    assert (pairs["shared"][0], pairs["Jaccard"][0]) == (k, 1)
    assert list(sets["weights"]) == [k]
    assert len(app.dataframe[-1].value) == min(k, 1000)
    app = app.multiselect[0].set_value([run.name, other.name]).run()
    assert f"{run.name}: test_vit; {other.name}: test_vit2" in app.error[0].value


def test_the_page_says_why_the_first_blocks_are_not_shown(with_run: str, own_run: RunFolder) -> None:
    said = "could change only the last blocks"
    assert said in page_text(open_page("importance", own_run.name))
    path = own_run.path / "config.yaml"
    path.write_text(path.read_text().replace("last:50%", "matrices"))
    assert said not in page_text(open_page("importance", own_run.name))

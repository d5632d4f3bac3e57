"""The page Compare without a browser: any table, finished or not, and folders that are none."""
# ruff: noqa: F401, F811 (fixtures are imported by name)

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from .comparisons import USUAL, first, made_up, planned
from .test_app import _own_settings, opened, runs, words
from .test_compare_report import ARMS, RIGHTS


@pytest.fixture(autouse=True)
def project(runs, tmp_path, monkeypatch):
    """The project's own results: an empty folder."""
    import comparing

    monkeypatch.setattr(comparing, "RESULTS", tmp_path / "results")
    yield tmp_path / "results"
    streamlit.cache_resource.clear()


def comparing(folder) -> AppTest:
    """The page with this folder typed into it."""
    return opened("compare", set_table_folder=str(folder))


def choose(app: AppTest, label: str, value: str) -> AppTest:
    """Set the one choice with this label."""
    found = [widget for kind in (app.selectbox, app.segmented_control) for widget in kind if widget.label == label]
    assert len(found) == 1
    return found[0].set_value(value).run()


def table(app: AppTest, column: str):
    """The first table with this column."""
    return next(frame.value for frame in [*app.dataframe, *app.table] if column in frame.value)


def test_it_asks_for_a_folder_where_the_project_has_no_table(tmp_path):
    app = opened("compare")
    assert "Name the folder of a comparison above" in words(app)
    assert not app.error
    (tmp_path / "photos").mkdir()
    for folder in (tmp_path / "photos", tmp_path / "nowhere"):
        app = comparing(folder)
        assert [error.value for error in app.error] == [
            f"The folder '{folder.name}' is no table of a comparison: it has no plan.yaml and cells.jsonl. Choose a "
            "folder that `shpeft compare` has written to, such as results/compare."
        ]
    assert not list((tmp_path / "photos").iterdir())
    assert not (tmp_path / "nowhere").exists()


def test_the_project_s_tables_are_offered_the_largest_first(project):
    made_up(project / "another", planned(title="The other one"), without=("bad", "same"))
    made_up(project / "mine", planned(title="Which one?"))
    app = opened("compare")
    assert "**Which one?**" in words(app)
    assert "Name the folder of a comparison above" in words(choose(app, "Comparison", "Another folder"))


def test_a_finished_table_is_shown_with_its_doubts(tmp_path):
    made_up(tmp_path / "t", planned(arms=ARMS), rights=RIGHTS)
    app = comparing(tmp_path / "t")
    assert not app.error
    text = words(app)
    assert "48 of 48 cells are done" in text
    assert "**Won** against the frozen model (probe): +20.0" in text
    assert "good, 0.01 % is **ahead of** probe in balanced accuracy: **+20.0 [" in text
    assert "with 3 of them it cannot fall below 0.25" in text
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Test cases"] == "600"
    assert shown["They disagree on"] == "20.0%"
    assert shown["False claim"] == "below 0.1 %"
    assert shown["Could show"].endswith(" points")
    assert all(metric.help for metric in app.metric)
    assert str(tmp_path) not in text
    kept = table(app, "found")
    assert list(kept["answer"]) == ["no", "yes"]
    against = table(app, "against").set_index("against")
    assert against.loc["full", "verdict"] == "lost"
    assert against.loc["full", "difference"] == pytest.approx(-10)
    assert len(app.get("plotly_chart")) == 5
    text = words(choose(app, "Against", "LoRA"))
    assert "**a tie**, neither is shown to be better" in text


def test_any_arm_and_measure_can_be_looked_at(tmp_path):
    made_up(tmp_path / "t", planned(), confidence={"good": 0.8, "same": 0.8})
    app = choose(comparing(tmp_path / "t"), "Arm", "bad, 0.01 %")
    against = table(app, "against").set_index("against")
    assert against.loc["good, 0.01 %", "verdict"] == "lost"
    assert "The answer" not in [header.value for header in app.header]
    app = choose(choose(app, "Measure", "ece"), "Arm", "good, 0.01 %")
    against = table(app, "against").set_index("against")
    assert against.loc["bad, 0.01 %", "verdict"] == "won"  # less is better
    assert against.loc["bad, 0.01 %", "difference"] < 0
    assert against.loc["same, 0.01 %", "verdict"] == "the same"
    assert "No claim of equivalence" in words(choose(app, "Against", "same, 0.01 %"))
    only = table(choose(app, "On", "b"), "against")
    assert "p, Holm" not in only


def test_edges_of_the_grid_are_warned_of(tmp_path):
    made_up(tmp_path / "t", planned())
    app = comparing(tmp_path / "t")
    assert any("bad, 0.01 % (3 of 3 sets)" in warning.value for warning in app.warning)
    assert table(app, "tried").set_index("arm").loc["bad, 0.01 %", "a"] == "0.01 (edge)"


def test_a_table_that_is_filling_is_no_result_yet(tmp_path):
    made_up(tmp_path / "t", planned(arms=ARMS), rights=RIGHTS, without=("full", "kept", ("random", "b")))
    text = words(comparing(tmp_path / "t"))
    assert "20 cells are missing" in text
    assert "| random, 0.01 % |  | 2 of 2 |  |" in text
    assert "**This is no result yet**: 28 of 48" in text
    made_up(tmp_path / "begun", planned(), without=("good", "same", "bad"))
    app = comparing(tmp_path / "begun")
    assert not app.error
    assert "There is no answer yet" in words(app) or "No other arm" in words(app)

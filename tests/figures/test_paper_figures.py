"""Figures of a paper from a finished run, as a notebook makes them."""

from pathlib import Path

from shpeft import figures, pipeline
from shpeft.figures import alt_text
from shpeft.runs import RunFolder
from tests.helpers.present import single_label


def test_four_figures_of_a_finished_run_take_one_call_each(tiny_run: Path, tmp_path: Path) -> None:
    run = RunFolder.open(tiny_run)
    drawn = {
        "importance": figures.importance_heatmap(run.scores.summaries()),
        "overlap": figures.overlap_counts(pipeline.overlap_within(run)),
        "training": figures.training_curves(run.history.read()),
        "reliability": figures.reliability_diagram(run.predictions.test(), single_label(run.reliability.read())),
    }
    for name, figure in drawn.items():
        assert figure.data, name
        assert alt_text(figure), name
    paths = figures.save(drawn, tmp_path)
    assert all(path.stat().st_size > 1000 for path in paths.values())

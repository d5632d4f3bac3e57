"""A sweep on the page Runs: its folds together, its combinations, its runs, and how to continue it."""

from pathlib import Path

from shpeft.config.sweep import Sweep
from shpeft.pipeline.sweep import run_sweep
from shpeft.runs.sweep import SweepFolder
from shpeft.support.formatting import interval
from tests.helpers.app_pages import TINY, open_page, page_text


def test_a_sweep_is_shown_with_its_results(runs: Path) -> None:
    sweep = Sweep.parse({"config": TINY, "folds": 2})
    folder = SweepFolder.create(runs / "halves", sweep)
    page = open_page("runs")
    assert "Sweep halves: 0 of 2 runs finished" in [expander.label for expander in page.expander]
    assert [code.value for code in page.code] == [f"shpeft sweep {folder.path}"]
    results = run_sweep(folder)
    page = open_page("runs")
    [expander] = [expander for expander in page.expander if expander.label.startswith("Sweep")]
    assert expander.label == "Sweep halves: 2 of 2 runs finished"
    pooled, together, each = (frame.value for frame in expander.dataframe)
    assert pooled["measure"].tolist() == ["Balanced accuracy", "Macro AUROC"]
    assert pooled["test images"].tolist() == [36, 36]
    assert pooled["fine-tuned"].tolist()[1] == interval(results["pooled"][0]["finetuned"]["macro_auroc"])
    assert together["runs"].tolist() == [2, 2]
    assert together["difference"].tolist()[0].startswith(("+", "-"))
    assert each["run"].tolist() == ["halves-fold1", "halves-fold2"]
    assert "by a model that never saw its patient" in page_text(page)
    assert not page.exception

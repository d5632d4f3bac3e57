"""Pages of a run of several findings, without a browser."""

from pathlib import Path

import pytest

from shpeft import pipeline
from shpeft.config.schema import RunConfig
from shpeft.evaluation import FindingReliability
from shpeft.runs import RunFolder
from tests.helpers.app_pages import PAGES, TINY, open_page, open_test_image, page_text, until_done
from tests.helpers.finding_tables import FINDINGS, write_findings


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("several")
    source = {"dataset": {"source": str(write_findings(root / "images", 72))}, "decision": {"must_not_miss": "disc"}}
    folder = RunFolder.create(root / "runs" / "several", RunConfig.parse(TINY | source))
    pipeline.run(folder.config, folder)
    return folder


@pytest.fixture(autouse=True)
def _seen(several: RunFolder, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHPEFT_RUNS", str(several.path.parent))


@pytest.mark.parametrize("page", PAGES[1:])
def test_every_page_shows_the_run(page: str, several: RunFolder) -> None:
    app = open_page(page, several.name)
    assert not app.error
    if page == "train":
        text = page_text(app)
        assert "Macro AUROC" in text
        assert "alanced accuracy" not in text  # the task has none


def test_one_finding_is_evaluated_and_its_rule_changed(several: RunFolder) -> None:
    app = open_page("evaluate", several.name)
    before = several.reliability.read()
    assert isinstance(before, FindingReliability)
    next(control for control in app.button_group if control.label == "Finding").set_value("frame").run()
    assert not app.error
    assert "frame" in app.header[0].value
    next(box for box in app.selectbox if box.label == "Class").set_value("None").run()
    assert not app.exception
    after = several.reliability.read()
    assert isinstance(after, FindingReliability)
    assert after.findings["frame"].operating is None
    assert after.findings["disc"] == before.findings["disc"]
    assert after.findings["bar"] == before.findings["bar"]


def test_a_case_has_an_answer_to_each_finding(several: RunFolder) -> None:
    app = until_done(open_test_image(several.name))
    text = page_text(app)
    assert not app.error
    cells = [str(table.value) for table in app.table]
    assert any(all(name in cell for name in FINDINGS) for cell in cells) or "No answer" in text
    pills = next(control for control in app.button_group if control.label == "Your findings")
    pills.set_value(["bar", "disc"]).run()
    assert list(app.session_state["findings"][several.name].values()) == ["bar|disc"]

"""The schema of a run: round trip, and all problems at once."""

import pytest

from shpeft.config import RunConfig
from shpeft.errors import ConfigError


def test_yaml_round_trip(tmp_path):
    config = RunConfig.parse({"selection": {"budget": 500, "scope": "last:3"}, "training": {"lr": 0.1}, "seed": 4})
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    assert RunConfig.from_yaml(tmp_path / "run.yaml") == config
    assert isinstance(config.selection.budget, int)


def test_budgets_are_shares_below_one_and_counts_above():
    budget = lambda b: RunConfig.parse({"selection": {"budget": b}}).selection.budget  # noqa: E731
    assert budget(1e-4) == 1e-4
    assert (budget(1), budget(2156), budget(2156.0)) == (1, 2156, 2156)
    assert isinstance(budget(2156.0), int)
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(ConfigError, match=r"selection\.budget"):
            budget(wrong)


def test_all_problems_are_listed_and_names_corrected():
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"training": {"epoch": 3, "lr": -1}, "selection": {"scope": "some"}, "seeed": 1})
    message = str(caught.value)
    assert message.count("\n- ") == 4
    assert "training.epoch: there is no such setting. Did you mean epochs?" in message
    assert "Did you mean seed?" in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_files_that_are_no_mapping_are_refused(text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        RunConfig.from_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        RunConfig.from_yaml(tmp_path / "nothing.yaml")

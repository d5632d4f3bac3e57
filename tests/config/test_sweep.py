"""A sweep is every combination of settings, seeds and folds, each once, and says what is wrong with its file."""

from pathlib import Path

import pytest

from shpeft.config.sweep import Sweep
from shpeft.errors import ConfigError


def test_all_combinations_are_runs_with_their_own_settings() -> None:
    sweep = Sweep.parse(
        {
            "config": {"training": {"epochs": 2}},
            "seeds": "0..2",
            "folds": "2",
            "settings": {"training.lr": [0.1, 0.01], "selection.score": ["hybrid", "random"]},
        }
    )
    members = sweep.members()
    assert len(members) == len({member.name for member in members}) == 3 * 2 * 4
    last = members[-1]
    assert (last.config.training.lr, last.config.selection.score, last.config.seed) == (0.01, "random", 2)
    assert (last.config.dataset.fold, last.config.training.epochs, last.name) == ("2/2", 2, "4-seed2-fold2")
    assert last.settings == {"training.lr": 0.01, "selection.score": "random"}


def test_folds_by_a_column_need_the_images_to_be_counted() -> None:
    sweep = Sweep.parse({"folds": "site"})
    with pytest.raises(ConfigError, match="How many folds there are by site is not known"):
        sweep.members()
    assert [member.config.dataset.fold for member in sweep.with_fold_count(2).members()] == ["site:1/2", "site:2/2"]
    assert [member.name for member in Sweep.parse({}).members()] == [""]


def test_a_sweep_survives_its_file(tmp_path: Path) -> None:
    sweep = Sweep.parse({"seeds": [3, 1], "folds": "fold:4", "settings": {"selection.budget": ["1e-4", "200"]}})
    (tmp_path / "sweep.yaml").write_text(sweep.to_yaml())
    again = Sweep.from_yaml(tmp_path / "sweep.yaml")
    assert again == sweep
    assert again.members() == sweep.members()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"settings": {"training.rate": [1]}}, r"no setting 'training.rate' to list.*training.lr"),
        ({"settings": {"seed": [1, 2]}}, "no setting 'seed' to list"),
        ({"settings": {"training.lr": [0.1, -1]}}, "training.lr"),
        ({"settings": {"training.lr": [0.1, 0.1]}}, "give each value once"),
        ({"settings": {"training.lr": []}}, "give each value once"),
        ({"seeds": "zero"}, "give 0..4 or 0,3,5"),
        ({"seeds": [1, 1]}, "give each seed once"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"folds": "patient"}, "folds"),
        ({"folds": 3, "config": {"dataset": {"fold": "1/3"}}}, "has a fold already"),
        ({"seed": [1]}, "there is no such setting"),
    ],
)
def test_mistakes_are_sentences(raw: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Sweep.parse(raw)


def test_a_sweep_has_a_thousand_runs_at_most() -> None:
    with pytest.raises(ConfigError, match="The sweep has 1,001 runs"):
        Sweep.parse({"seeds": "0..1000"}).members()

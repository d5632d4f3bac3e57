"""The schema of a run: round trip, and all problems at once."""

from pathlib import Path

import pytest
import yaml

from shpeft.config.schema import Budget, RunConfig
from shpeft.errors import ConfigError


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = RunConfig.parse({"selection": {"budget": 500, "scope": "last:3"}, "training": {"lr": 0.1}, "seed": 4})
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    assert RunConfig.from_yaml(tmp_path / "run.yaml") == config
    assert isinstance(config.selection.budget, int)


def test_a_share_and_a_count_differ_by_how_they_are_written() -> None:
    def budget(value: object) -> Budget:
        return RunConfig.parse({"selection": {"budget": value}}).selection.budget

    assert budget(1e-4) == 1e-4
    assert (budget(1), budget("1"), budget(2156), budget("2156")) == (1, 1, 2156, 2156)
    assert all(isinstance(budget(count), int) for count in (1, "1", "2156"))
    for share in (1.0, "1.0", "100%", "100.0 %"):
        assert budget(share) == 1.0
        assert isinstance(budget(share), float)
    assert RunConfig.parse(yaml.safe_load(RunConfig.parse({"selection": {"budget": "100%"}}).to_yaml())) == (
        RunConfig.parse({"selection": {"budget": 1.0}})
    )
    with pytest.raises(ConfigError, match=r"200% is a share of more than all weights; the largest share is 1\.0"):
        budget("200%")
    with pytest.raises(ConfigError, match="write 2156 for that number of weights"):
        budget(2156.0)
    for wrong in (0, 0.0, "0%", -1, 1.5, "101%", "many", "nan"):
        with pytest.raises(ConfigError, match=r"selection\.budget"):
            budget(wrong)


def test_all_problems_are_listed_and_names_corrected() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.parse({"training": {"epoch": 3, "lr": -1}, "selection": {"scope": "some"}, "seeed": 1})
    message = str(caught.value)
    assert message.count("\n- ") == 4
    assert "training.epoch: there is no such setting. Did you mean epochs?" in message
    assert "Did you mean seed?" in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_files_without_a_mapping_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        RunConfig.from_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        RunConfig.from_yaml(tmp_path / "nothing.yaml")


def test_an_image_size_is_a_number_or_height_x_width() -> None:
    def size(value: object) -> int | str | None:
        return RunConfig.parse({"backbone": {"image_size": value}}).backbone.image_size

    assert [size(value) for value in (224, "224", 224.0, "224x224", [224, 224])] == [224] * 5
    assert [size(value) for value in ("224x448", "224 X 448", "224×448", (224, 448))] == ["224x448"] * 4
    assert size(None) is size("") is None
    config = RunConfig.parse({"backbone": {"image_size": "64x32"}})
    for written, parsed in (("image_size: 64x32", config), ("image_size: 64", None)):
        own = parsed or RunConfig.parse({"backbone": {"image_size": "64x64"}})
        assert written in own.to_yaml().replace("'", "").splitlines()[4].strip()
        assert RunConfig.parse(yaml.safe_load(own.to_yaml())) == own
    for wrong in ("wide", "224x", "1x2x3", 32.5, True, [1, 2, 3], -64):
        with pytest.raises(ConfigError, match=r"backbone\.image_size: .* nor height x width, such as 224x448"):
            size(wrong)
    for outside in (15, 2049, "15x64", "64x2049", 0):
        with pytest.raises(ConfigError, match=r"backbone\.image_size: (each side .* 16 to 2048 pixels|.*neither)"):
            size(outside)

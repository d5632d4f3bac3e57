"""Every setting of the schema has a widget on the Train page, with the schema's label, help, bounds and default."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from shpeft.config import RunConfig, fields, limits, option, setting
from tests.helpers.app_pages import open_page
from tests.helpers.image_folders import build_folder

FIELDS = {path: field for path, _, field in fields(RunConfig)}

BESPOKE = {
    "dataset.source": "set_folder",
    "backbone.weights": "set_weights",
    "selection.budget": "set_share",
}
"""Settings that are more than one widget, or choose among what the computer holds."""


@pytest.fixture
def form(tmp_path: Path) -> AppTest:
    """The form where every setting has an effect that the sum of both halves knows."""
    folder = build_folder(tmp_path / "images", {"a": 8, "b": 8})
    return open_page(
        "train",
        set_kind="Folder",
        set_folder=str(folder),
        set_formula="sum",
        set_augment="light",
        set_backbone="test_vit",
    )


def test_every_setting_has_a_widget(form: AppTest) -> None:
    kinds = (
        form.selectbox,
        form.number_input,
        form.text_input,
        form.toggle,
        form.select_slider,
        form.segmented_control,
    )
    widgets = {widget.key: widget for kind in kinds for widget in kind}
    product = form.selectbox(key="set_formula").set_value("product").run()  # another formula has other settings
    widgets |= {widget.key: widget for widget in product.number_input}
    assert FIELDS
    for path, field in FIELDS.items():
        shown = setting(field)
        assert shown is not None
        key = BESPOKE.get(path, "set_" + option(path, field).removeprefix("--").replace("-", "_"))
        assert key in widgets, path
        if path != "dataset.source":
            assert widgets[key].label == shown.label
            assert widgets[key].help == field.description


def test_numbers_have_the_bounds_and_defaults_of_the_schema(form: AppTest) -> None:
    numbers = {widget.key: widget for widget in form.number_input}
    checked = 0
    for path, field in FIELDS.items():
        widget = numbers.get("set_" + option(path, field).removeprefix("--").replace("-", "_"))
        if widget is not None:
            bounds = limits(field)
            assert widget.value == field.default
            assert widget.min == bounds.get("ge", bounds.get("gt"))
            assert widget.max == bounds.get("le", bounds.get("lt")) or widget.max is None or "lt" not in bounds
            checked += 1
    assert checked > 10


def test_a_setting_without_effect_is_not_drawn() -> None:
    form = open_page("train", set_score="random")
    keys = {widget.key for widget in [*form.selectbox, *form.number_input]}
    assert "set_spread" in keys
    assert not keys & {"set_formula", "set_norm", "set_lam", "set_normalizer", "set_expectation"}


def test_an_image_size_is_a_side_or_height_x_width(form: AppTest) -> None:
    field = form.text_input(key="set_image_size")
    assert (field.value, field.label) == ("", "Image size (or height x width)")
    assert not field.set_value("32x64").run().error
    wrong = form.text_input(key="set_image_size").set_value("wide").run()
    assert any("nor height x width, such as 224x448" in message.value for message in wrong.error)

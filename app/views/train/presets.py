"""The presets, each with the time and the memory that the run will take."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import streamlit as st

from app.views.train.setting_widgets import current, widget_key
from app.widgets import session
from shpeft.config import PRESETS, RunConfig
from shpeft.datasets import Dataset
from shpeft.errors import ConfigError
from shpeft.pipeline import Cost, estimate_cost, rough_seconds
from shpeft.support.markdown import plain

TITLES = {name: preset.title for name, preset in PRESETS.items()}
CUSTOM = "Custom"
Costs = dict[str, Cost]


def choose() -> None:
    """Draw a choice of presets that follows the settings, and sets them."""
    st.session_state["preset"] = TITLES.get(_in_force() or "", CUSTOM)
    st.segmented_control(
        "Preset",
        [*TITLES.values(), CUSTOM],
        key="preset",
        required=True,
        on_change=_apply,
        help=". ".join(f"*{preset.title}*: {preset.help}" for preset in PRESETS.values())
        + f". *{CUSTOM}*: other settings were made under Advanced.",
    )


def _in_force() -> str | None:
    """Return the preset that the widgets' values amount to."""
    raw: dict[str, dict[str, Any]] = {}
    for section, name in {
        (s, name) for preset in PRESETS.values() for s in preset.settings for name in preset.settings[s]
    }:
        raw.setdefault(section, {})[name] = current(f"{section}.{name}")
    try:
        return RunConfig.parse(raw).preset
    except ConfigError:  # a scope that was typed wrongly, which the form reports
        return None


def _apply() -> None:
    """Set the widgets of the chosen preset's settings."""
    chosen = next((name for name, title in TITLES.items() if title == st.session_state["preset"]), None)
    for section, settings in (PRESETS[chosen].settings if chosen else {}).items():
        for name, value in settings.items():
            st.session_state[widget_key(f"{section}.{name}")] = value


def total(config: RunConfig, data: Dataset | None) -> None:
    """Say how long a run with the present settings takes, once it is measured."""
    future = None if data is None else _futures().get(_key(config, data))
    if future is not None and future.done():
        costs = future.result()
        st.caption(f":material/timer: {plain(costs[config.preset or CUSTOM])} on this computer.")


def times(config: RunConfig, data: Dataset | None) -> None:
    """Show the time and memory that each preset and the present settings take, measured on this computer."""
    if data is None:
        st.caption("The time estimate appears after the images are loaded.")
        return
    key = _key(config, data)
    futures = _futures()
    if key not in futures and session.jobs().active():
        st.caption("The time is measured after the present run ends.")
        return
    if key not in futures:
        futures[key] = _worker().submit(_measure, config, key[1])
    if futures[key].done():
        _show(futures[key].result(), config)
    else:
        _wait(futures[key])


def _key(config: RunConfig, data: Dataset) -> tuple[str, tuple[int, ...]]:
    decided = config.model_copy(update={"decision": RunConfig().decision})  # which takes no time
    return decided.model_dump_json(), tuple(len(split) for split in data.splits)


@st.fragment(run_every=0.5)
def _wait(future: "Future[Costs]") -> None:
    if future.done():
        st.rerun()
    st.caption(":material/timer: Measuring the time on this computer …")


def _show(costs: Costs, config: RunConfig) -> None:
    known = [f"{TITLES[name]}: **{plain(costs[name])}**" for name in TITLES]
    if config.preset is None:
        known.append(f"these settings: **{plain(costs[CUSTOM])}**")
    st.caption(f":material/timer: Expected on this computer: {' · '.join(known)}.")


def _measure(config: RunConfig, cases: tuple[int, ...]) -> Costs:
    costs = {name: estimate_cost(config.with_preset(name), cases) for name in TITLES}
    return costs | {CUSTOM: estimate_cost(config, cases)}


def speed_is_known() -> bool:
    """Return whether this computer's speed has been measured, which starts now if it has not."""
    return _speed().done()


@st.cache_resource(show_spinner=False)
def _speed() -> "Future[float]":
    return _worker().submit(rough_seconds, 1.0, (1, 1, 1))


@st.cache_resource(show_spinner=False)
def _futures() -> "dict[tuple[str, tuple[int, ...]], Future[Costs]]":
    return {}


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """Return the thread of the measurements: one at a time, since two would disturb each other."""
    return ThreadPoolExecutor(1, thread_name_prefix="shpeft-measure")

"""Presets: settings that belong together, each with the time and the memory that the run will take."""

from concurrent.futures import Future, ThreadPoolExecutor

import shared
import streamlit as st

from shpeft.config import PRESETS, RunConfig
from shpeft.datasets import Dataset
from shpeft.pipeline import Cost, expected

TITLES = {"fast": "Fast", "balanced": "Balanced", "thorough": "Thorough", "paper": "Paper"}
CUSTOM = "Custom"
KEYS = {
    ("selection", "scope"): "set_scope",
    ("selection", "expectation"): "set_expectation",
    ("selection", "spread"): "set_spread",
    ("training", "cache"): "set_cache",
    ("training", "checkpointing"): "set_checkpointing",
}
"""The widgets of what presets decide."""

Costs = dict[str, Cost]


def choose() -> None:
    """A choice of presets that follows the settings, and sets them."""
    st.session_state["preset"] = TITLES.get(_in_force() or "", CUSTOM)
    st.segmented_control(
        "Preset",
        [*TITLES.values(), CUSTOM],
        key="preset",
        required=True,
        on_change=_apply,
        help="*Fast* lets only weights of the last quarter of the blocks change, *Balanced* those of the last half: "
        "what lies below runs once an image. *Thorough* chooses among the matrices of all blocks, and "
        "*Paper* too, but by gradients of batches, where the others take the gradient of all images. *Custom* is shown "
        "when other settings were made under Advanced.",
    )


def _value(section: str, key: str) -> object:
    """A setting's present value: the widget's, or the default before it was ever drawn."""
    return st.session_state.get(KEYS[section, key], getattr(getattr(RunConfig(), section), key))


def _in_force() -> str | None:
    settings = {section: {key: _value(section, key) for found, key in KEYS if found == section} for section, _ in KEYS}
    return RunConfig.parse(settings).preset


def _apply() -> None:
    chosen = next((name for name, title in TITLES.items() if title == st.session_state["preset"]), None)
    for section, settings in PRESETS.get(chosen, {}).items():
        for key, value in settings.items():
            st.session_state[KEYS[section, key]] = value


def times(config: RunConfig, data: Dataset | None) -> None:
    """What each preset and the present settings would take, measured on this computer."""
    if data is None:
        st.caption("How long it takes is told here once the images were looked at.")
        return
    key = (config.model_dump_json(), tuple(len(split) for split in data.splits))
    futures = _futures()
    if key not in futures and shared.jobs().active():
        st.caption("How long it takes is measured when the present run has ended.")
        return
    if key not in futures:
        futures[key] = _worker().submit(_measure, config, key[1])
    if futures[key].done():
        _tell(futures[key].result(), config)
    else:
        _wait(futures[key])


@st.fragment(run_every=0.5)
def _wait(future: "Future[Costs]") -> None:
    if future.done():
        st.rerun()
    st.caption(":material/timer: Measuring how long it takes on this computer …")


def _tell(found: Costs, config: RunConfig) -> None:
    known = [f"{TITLES[name]}: **{found[name]}**" for name in TITLES]
    if config.preset is None:
        known.append(f"these settings: **{found[CUSTOM]}**")
    st.caption(f":material/timer: Expected on this computer: {' · '.join(known)}.")


def _measure(config: RunConfig, cases: tuple[int, ...]) -> Costs:
    found = {name: expected(config.with_preset(name), cases) for name in TITLES}
    return found | {CUSTOM: expected(config, cases)}


@st.cache_resource(show_spinner=False)
def _futures() -> "dict[tuple[str, tuple[int, ...]], Future[Costs]]":
    return {}


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    """One measurement at a time: two would disturb each other."""
    return ThreadPoolExecutor(1, thread_name_prefix="shpeft-measure")

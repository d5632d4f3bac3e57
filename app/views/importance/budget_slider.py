"""The budget shown on the Importance page, with the map: weights are selected again from the saved scores."""

import streamlit as st

from app.views.importance.run_score import RunScore
from app.views.importance.weight_map import weight_map
from app.widgets import layout
from shpeft.errors import SelectionError
from shpeft.selection.ranking import Rankings, budgets, nearest

HELP = "Selects weights again from the saved scores. Nothing is trained, and the run does not change."


def choose_budget(selected: RunScore) -> int | None:
    """Draw the choice of a budget; return it, or None if the run has no rankings to select from."""
    run = selected.run
    own, rankings = run.scores.support().k, selected.rankings
    if rankings is None:
        st.info(
            "This run was made by an older version and has no rankings, so other budgets cannot be shown. It selected "
            f"{own:,} weights."
        )
        return None
    grids = run.scores.grids(selected.score)
    budget = _slider_and_field(run.name, rankings, own) if grids is None else _field(run.name, rankings.eligible, own)
    if grids is not None:
        weight_map(selected, grids, budget)
    try:
        rankings.counts(selected.score, budget)
    except SelectionError as error:
        layout.show_error(error)
        return own
    return budget


def _field(run: str, eligible: int, own: int) -> int:
    """Draw a field for any count behind a click, because the slider is in the map; return the budget."""
    exact = f"budget-{run}"
    st.session_state.setdefault(exact, own)

    def reset() -> None:
        st.session_state[exact] = own

    with st.container(horizontal=True):
        with st.popover("Type a budget", icon=":material/keyboard:"):
            st.number_input("Budget in weights", 1, eligible, key=exact, help=HELP)
        back = f"Back to the run's own budget of {own:,} weights."
        st.button("Reset", on_click=reset, help=back, disabled=st.session_state[exact] == own)
    return int(st.session_state[exact])


def _slider_and_field(run: str, rankings: Rankings, own: int) -> int:
    """Draw a slider with logarithmic steps and a field for any count, kept in sync; return the budget."""
    exact, step = f"budget-{run}", f"step-{run}"
    state = st.session_state
    state.setdefault(exact, own)
    steps = budgets(rankings.reach, also=(own, state[exact]))
    state.setdefault(step, own)

    def follow_slider() -> None:
        state[exact] = state[step] = state[step]  # the slider is new: its steps no longer include the exact count

    def follow_field() -> None:
        state[step] = nearest(budgets(rankings.reach, also=(own, state[exact])), state[exact])

    def reset() -> None:
        state[exact] = own
        follow_field()

    slider, field, button = st.columns([6, 2, 1], vertical_alignment="bottom")
    slider.select_slider(
        "Budget",
        steps,
        key=step,
        on_change=follow_slider,
        format_func=lambda k: f"{k:,} ({layout.share(rankings.share(k))})",
        help=HELP,
    )
    field.number_input("Exact count", 1, rankings.eligible, key=exact, on_change=follow_field)
    button.button("Reset", on_click=reset, help=f"Back to the run's own budget of {own:,} weights.", width="stretch")
    return int(state[exact])

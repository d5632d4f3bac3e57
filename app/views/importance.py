"""Importance: which weights matter, by block and matrix, and what another budget would choose."""

import matrix
import shared
import streamlit as st

from shpeft import figures
from shpeft.errors import SelectionError
from shpeft.ranking import Rankings, budgets, nearest
from shpeft.runs import RunFolder
from shpeft.runs.formats import summaries_csv
from shpeft.summaries import LayerSummary, Meaning, half_of_selected, meaning, reselected

WHICH = {
    "hybrid": ("Hybrid", "Both halves together: the score that decided which weights were trained."),
    "task-specific": ("Task-specific", "What your images need. Chosen is what this half alone would choose."),
    "task-agnostic": ("Task-agnostic", "What pretraining made large. Chosen is what this half alone would choose."),
}
QUANTITIES = {
    "selected": ("Chosen weights", "How many weights of each matrix are chosen within the budget."),
    "density": ("Chosen share", "Which share of each matrix's weights is chosen."),
    "mean": ("Mean score", "The average score of each matrix's weights."),
    "maximum": ("Highest score", "The largest score of each matrix's weights."),
}
COUNTED = ("selected", "density")
ALONE = "no other"


def scores_of(run: RunFolder) -> tuple[str, ...]:
    """The scores that a run keeps."""
    return tuple(WHICH) if run.config.selection.score == "hybrid" else ("hybrid",)


def score_name(run: RunFolder, which: str) -> str:
    """What a score is called."""
    score = run.config.selection.score
    return WHICH[which][0] if score == "hybrid" else score.capitalize()


def others(run: RunFolder, which: str) -> dict[str, tuple[RunFolder, str]]:
    """What the score can be compared with: this run's other scores, and those of runs of the same weights."""
    found = {score_name(run, w): (run, w) for w in scores_of(run) if w != which}
    wanted = (run.config.backbone, run.config.selection.scope)
    for other in shared.runs_with("importance.npz"):
        if other.name != run.name and (other.config.backbone, other.config.selection.scope) == wanted:
            found |= {f"{other.name} · {score_name(other, w)}": (other, w) for w in scores_of(other)}
    return found


def choose_budget(run: RunFolder, rankings: Rankings, own: int) -> int:
    """A slider in even steps of the logarithm, and a field for any count; both say the same."""
    exact, step = f"budget-{run.name}", f"step-{run.name}"
    state = st.session_state
    state.setdefault(exact, own)
    steps = budgets(rankings.reach, also=(own, state[exact]))
    state.setdefault(step, own)

    def follow_slider() -> None:
        state[exact] = state[step] = state[step]  # said anew: without the exact count among its steps it is another

    def follow_field() -> None:
        state[step] = nearest(budgets(rankings.reach, also=(own, state[exact])), state[exact])

    slider, field, back = st.columns([6, 2, 1], vertical_alignment="bottom")
    slider.select_slider(
        "Budget",
        steps,
        key=step,
        on_change=follow_slider,
        format_func=lambda k: f"{k:,} ({shared.share(rankings.share(k))})",
        help="Weights are chosen anew from the scores that the run kept. Nothing is trained, and the run stays as it "
        "is.",
    )
    field.number_input("Exact count", 1, rankings.eligible, key=exact, on_change=follow_field)

    def reset() -> None:
        state[exact] = own
        follow_field()

    back.button("Reset", on_click=reset, help=f"Back to the {own:,} weights that the run trained.", width="stretch")
    return int(state[exact])


def layers_of(run: RunFolder, which: str, rankings: Rankings | None, k: int | None) -> list[LayerSummary]:
    """The summaries, with the weights that a budget of k chooses; with the run's own ones where k is None."""
    layers = run.summaries(which)
    if rankings is None or k is None:
        return layers
    return reselected(layers, rankings.counts(which, k))


def heatmap(run: RunFolder, which: str, layers: list[LayerSummary], quantity: str, beside: list[LayerSummary]) -> None:
    """The heatmap of a score; a click chooses the matrix."""
    key = f"heatmap-{run.name}-{which}-{quantity}"
    event = st.plotly_chart(
        figures.importance_heatmap(
            layers,
            quantity,
            unit=meaning(run.config.selection, which).unit,
            beside=beside if quantity in COUNTED else (),
        ),
        key=key,
        on_select="rerun",
        selection_mode="points",
        alt=f"Heatmap: {QUANTITIES[quantity][0].lower()}, by block and matrix",
        config=matrix.STILL,
    )
    if clicked := shared.newly_clicked(event, key):
        st.session_state["layer"] = clicked[0]


@shared.part
def one_matrix(
    run: RunFolder,
    which: str,
    layers: list[LayerSummary],
    said: Meaning,
    bounds: tuple[float, float] | None,
    budget: int | None,
) -> None:
    """The matrix that was clicked on, or is chosen here."""
    by_name = {layer.name: layer for layer in layers}
    if st.session_state.get("layer") not in by_name:  # chosen in a run of another backbone
        st.session_state["layer"] = None
    st.header("One matrix", anchor=False)
    name = st.selectbox(
        "Matrix",
        list(by_name),
        index=None,
        key="layer",
        placeholder="Click a cell above, or choose a matrix here",
        label_visibility="collapsed",
    )
    if name:
        matrix.show(run, which, by_name[name], said, bounds, budget)


st.title("Importance", anchor=False)
st.write("Every weight of the backbone gets a score before training, and the highest ones are trained. Where are they?")
run = shared.pick_run(
    shared.runs_with("importance.npz", "support.safetensors"),
    "There is no run with scores yet.",
    "It has no scores to show. Choose another run.",
)

left, middle, right = st.columns([2, 3, 2])
which = left.segmented_control(
    "Score", scores_of(run), default="hybrid", required=True, format_func=lambda name: score_name(run, name)
)
quantity = middle.segmented_control(
    "Quantity", list(QUANTITIES), default="selected", required=True, format_func=lambda name: QUANTITIES[name][0]
)
compared = others(run, which)
second = right.selectbox(
    "Beside it",
    [ALONE, *compared],
    help="Another score of this run, or of a run of the same backbone.",
    key=f"beside-{run.name}-{which}",
)

own = run.support().k
rankings = run.rankings()
budget: int | None = None
if rankings is None:
    st.info(
        "This run was made before rankings were kept, so that other budgets cannot be tried on it. Shown is what it "
        f"chose: {own:,} weights. A new run can do it."
    )
else:
    budget = choose_budget(run, rankings, own)
    try:
        rankings.counts(which, budget)
    except SelectionError as error:
        shared.complain(error)
        budget = own

layers = layers_of(run, which, rankings, budget)
said = meaning(run.config.selection, which)
if full := half_of_selected(layers):
    places = ", ".join(
        f"{layer.block} {layer.matrix.removesuffix('.weight')} ({layer.selected:,})" for layer in full[:5]
    )
    more = ", …" if len(full) > 5 else ""
    st.markdown(
        f"**{budget or own:,} weights**{'' if budget in (None, own) else f' (the run trained {own:,})'}: "
        f"half of them lie in {len(full)} of {len(layers)} matrices, {places}{more}."
    )
st.caption(
    f"{WHICH[which][1] if len(scores_of(run)) > 1 else 'This run used one score alone.'} {QUANTITIES[quantity][1]} "
    f"**A score means:** {said.words}"
)

if second == ALONE:
    heatmap(run, which, layers, quantity, [])
    beside = None
else:
    beside, other = compared[second]
    try:
        other_layers = layers_of(beside, other, beside.rankings(), budget)
    except SelectionError as error:
        shared.complain(error)
        other_layers = layers_of(beside, other, None, None)
    a, b = st.columns(2, gap="medium")
    with a:
        st.header(score_name(run, which), anchor=False)
        heatmap(run, which, layers, quantity, other_layers)
    with b:
        st.header(second, anchor=False)
        heatmap(beside, other, other_layers, quantity, layers)
    st.caption(f"**{second}:** {meaning(beside.config.selection, other).words}")

bounds = rankings.threshold(which, budget) if rankings is not None and budget is not None else None
one_matrix(run, which, layers, said, bounds, budget)

st.header("The same numbers in a table", anchor=False)
with st.expander("All matrices"):
    st.dataframe(
        [
            {
                "block": layer.block,
                "matrix": layer.matrix,
                "weights": layer.numel,
                "chosen": layer.selected,
                "chosen share": 100 * layer.density,
                "mean score": layer.mean,
                "median score": layer.quantiles[2],
                "highest score": layer.maximum,
            }
            | ({} if beside is None else {"chosen beside": o.selected, "mean beside": o.mean})
            for layer, o in zip(layers, layers if beside is None else other_layers, strict=True)
        ],
        hide_index=True,
        column_config={
            "weights": st.column_config.NumberColumn(format="localized"),
            "chosen share": st.column_config.NumberColumn(format="%.4f %%"),
            "mean score": st.column_config.NumberColumn(format="scientific"),
            "median score": st.column_config.NumberColumn(format="scientific"),
            "highest score": st.column_config.NumberColumn(format="scientific"),
            "mean beside": st.column_config.NumberColumn(format="scientific"),
        },
    )
st.download_button(
    "Download as CSV",
    summaries_csv(layers),
    f"{run.name}_{which}.csv",
    "text/csv",
    on_click="ignore",
    icon=":material/download:",
)

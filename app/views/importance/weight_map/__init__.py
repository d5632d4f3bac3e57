"""The importance map: the model drawn as its blocks and matrices, with the selected weights lit at any budget.

A component in plain JavaScript. Its message: four bytes with the length of a JSON header, the header, and three arrays
of unsigned 32-bit integers: where each step of the budget begins, the cells that it lights, how many weights it adds.
"""

import json
import struct
from pathlib import Path

import streamlit as st

from app.views.importance.run_score import RunScore
from shpeft.importance.weight_grid import BudgetGrids
from shpeft.selection.ranking import nearest

FOLDER = Path(__file__).parent
KEY = "weight-map"

_component = st.components.v2.component(
    "shpeft_weight_map",
    html=(FOLDER / "weight_map.html").read_text(encoding="utf-8"),
    css=(FOLDER / "weight_map.css").read_text(encoding="utf-8"),
    js=(FOLDER / "weight_map.js").read_text(encoding="utf-8"),
)


def weight_map(selected: RunScore, grids: BudgetGrids, budget: int) -> None:
    """Draw the map at the step that is nearest to the budget. Its slider sets the budget, a click the matrix."""
    run = selected.run.name

    def take_budget() -> None:
        sent = st.session_state[KEY]["budget"]
        if sent and sent["run"] == run:
            st.session_state[f"budget-{run}"] = int(sent["k"])

    def take_matrix() -> None:
        sent = st.session_state[KEY]["matrix"]
        if sent and sent["run"] == run:
            st.session_state["layer"] = sent["name"]

    message = map_message(selected, grids, budget, st.session_state.get("layer"))
    _component(key=KEY, data=message, on_budget_change=take_budget, on_matrix_change=take_matrix)


def map_message(selected: RunScore, grids: BudgetGrids, budget: int, chosen: str | None) -> bytes:
    """Pack the message that the browser gets."""
    assert selected.rankings is not None
    infos, steps = selected.run.scores.weight_infos(), grids.steps.tolist()
    header = {
        "run": selected.run.name,
        "total": selected.rankings.total,
        "steps": steps,
        "step": steps.index(nearest(steps, budget)),
        "chosen": chosen,
        "matrices": [
            {
                "name": info.name,
                "block": info.block,
                "numel": info.numel,
                "rows": info.shape[0],
                "columns": info.numel // info.shape[0],
                "down": down,
                "across": across,
            }
            for info, (down, across) in zip(infos, grids.sizes.tolist(), strict=True)
        ],
    }
    text = json.dumps(header).encode()
    arrays = [array.astype("<u4").tobytes() for array in grids.sparse()]
    return b"".join([struct.pack("<I", len(text)), text, *arrays])

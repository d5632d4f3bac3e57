"""Train: choose images, backbone and budget, start, watch, and see how good it is."""

import form
import keeping
import live
import shared
import streamlit as st

from shpeft.errors import RunError
from shpeft.runs import find_run

run = shared.current_run()
if run:
    try:
        live.show(run, list(shared.LINKS), new=True)
        keeping.configuration(find_run(run))
        shared.look_at(run)
    except RunError as error:
        shared.look_at(None)
        if not keeping.gone(run):
            st.warning(str(error), icon=":material/warning:")
        run = None

if not run:
    st.title("Train", anchor=False)
    st.write(
        "Adapt a pretrained vision model to a diagnosis task by training very few of its weights. "
        "The settings below work as they are, for a first run of a minute or two."
    )
    keeping.refused()
    keeping.undo()
    live.queue()
    wanted = form.settings()
    if wanted:
        shared.look_at(shared.jobs().submit(*wanted))
        st.session_state.pop("deleted", None)
        st.rerun()

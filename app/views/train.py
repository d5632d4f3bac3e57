"""Train: choose images, backbone and budget, start, watch, and see how good it is."""

import form
import live
import shared
import streamlit as st

from shpeft.errors import RunError

run = shared.current_run()
if run:
    try:
        live.show(run, list(shared.LINKS))
        shared.look_at(run)
    except RunError as error:
        st.warning(str(error), icon=":material/warning:")
        shared.look_at(None)
        run = None

if run:
    st.space("small")
    place = st.expander("Another run")
else:
    st.title("Train", anchor=False)
    st.write(
        "Adapt a pretrained vision model to a diagnosis task by training very few of its weights. "
        "The settings below work as they are, for a first run of about a minute."
    )
    place = st.container()

with place:
    wanted = form.settings()
if wanted:
    with shared.boundary():
        config, name = wanted
        shared.look_at(shared.jobs().submit(config, name))
        st.rerun()

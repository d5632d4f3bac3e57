"""Train: choose images, backbone and budget, start a run, follow it, and see its result."""

import streamlit as st

from app.views.train import form
from app.widgets import account, layout, run_management, run_status, session
from shpeft.errors import RunError
from shpeft.runs import find_run
from shpeft.support.markdown import plain

run = session.selected_run()
if run:
    try:
        if find_run(run).is_example:  # nothing that this page could do with it
            session.select_run(None)
            st.rerun()
        run_status.run_overview(run, list(layout.NEXT_PAGES), new=True)
        run_management.configuration(find_run(run))
        session.select_run(run)
    except RunError as error:
        session.select_run(None)
        if not run_management.is_in_trash(run):
            st.warning(plain(error), icon=":material/warning:")
        run = None

if not run:
    st.title("Train", anchor=False)
    run_management.show_failed_action()
    run_management.undo_delete()
    run_status.run_queue()
    request = form.settings()
    if request:
        session.select_run(session.jobs().submit(*request, account=account.current()))
        st.session_state.pop("deleted", None)
        st.rerun()

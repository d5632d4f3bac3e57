"""Home: try the example, teach shpeft one's own images, and go on with recent runs."""

import streamlit as st

from app.views.home import example, recent_runs
from app.widgets import layout, session
from shpeft.runs import example_run
from shpeft.support.markdown import plain

SAMPLE = 1
"""The test image of the example that opens first: one with a finding."""

if name := st.query_params.get("run"):  # an address of a run from before there was this page
    st.switch_page("views/train/page.py", query_params={"run": name})

st.title("What would you like to do?", anchor=False)
left, right = st.columns(2, gap="medium")
with left.container(border=True, height="stretch"):
    st.header("Try it", anchor=False)
    st.write("Diagnose a sample image, and see why. The model ships with shpeft; its images are drawn, of no patient.")
    tried = st.button("Try it", type="primary", icon=":material/play_arrow:", disabled=example_run() is None)
with right.container(border=True, height="stretch"):
    st.header("Teach it my images", anchor=False)
    st.write(
        f"Three steps: your images, what must not be missed, start. Your images stay on {plain(layout.computer())}."
    )
    taught = st.button("Teach it my images", icon=":material/upload:")
if tried:
    session.select_run(None)
    st.session_state["set_origin"] = "Test images"
    st.session_state["open_case"] = SAMPLE
    st.switch_page("views/diagnose/page.py", query_params={"run": "example"})
if taught:
    session.select_run(None)
    st.switch_page("views/train/page.py")
recent_runs.cards()
example.make_ready()

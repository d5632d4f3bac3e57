"""Another case of the list beside the open one, such as an earlier study; both scroll together."""

import streamlit as st

from app.views.diagnose import image
from app.views.diagnose.image import Case
from app.views.diagnose.images import Worklist
from app.widgets import layout
from shpeft.errors import ShpeftError
from shpeft.runs import RunFolder


def another_case(run: RunFolder, worklist: Worklist, position: int, case: Case) -> None:
    """Draw the choice of another case, and both side by side."""
    with st.expander("Beside another case"):
        others = [other for other in range(len(worklist)) if other != position]
        key = f"beside-{worklist.identity}-{position}"
        chosen = st.selectbox("Case", others, None, format_func=lambda other: f"Case {other + 1}", key=key)
        if chosen is None:
            return
        linked = st.toggle("Scroll together", True, key="set_linked", help="By the same number of frames or slices.")
        other = image.open_case(run, worklist, chosen)
        if isinstance(other, ShpeftError):
            layout.show_error(other)
            return
        left, right = st.columns(2)
        with left:
            image.view_image(case, linked=linked, key="viewer-left")
        with right:
            image.view_image(other, linked=linked, key="viewer-right")

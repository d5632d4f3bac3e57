"""The list of cases: thumbnails with answers, sorted and filtered, and the way from one case to the next."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.views.diagnose import batch, finding, image, model_tasks
from app.views.diagnose.images import MOST_SAMPLES, Worklist
from app.widgets import account, thumbnails
from shpeft.batch import Series
from shpeft.batch.worklist import WorklistRow, diagnose_split, in_order, with_findings, worklist_rows
from shpeft.errors import ShpeftError
from shpeft.pipeline import LoadedRun
from shpeft.runs import RunFolder
from shpeft.runs.audit import recorder
from shpeft.support.formatting import probability
from shpeft.support.markdown import plain
from shpeft.support.progress import Progress

A_PAGE = 12
CARD_PIXELS = 160
UNASKED_SECONDS = 20.0
"""Expected duration up to which test images are diagnosed without a click."""

ORDERS = {"urgency": "Urgency", "doubt": "Doubt", "given": "As given"}
ORDERS_OF_NUMBERS = {"largest": "Largest", "smallest": "Smallest", "given": "As given"}
HELP = (
    "*Urgency*: what the model does not answer first, then by the probability of the class that must not be missed. "
    "*Doubt*: the least certain answers first."
)
NOT_READ = "Without my finding"


def text(run: RunFolder, worklist: Worklist) -> str | None:
    """Draw the progress of the list; return its CSV, or None while there is none."""
    if worklist.samples is None:
        return batch.text(run, worklist)
    split = worklist.samples

    record = recorder(account.current(), run.name)

    def work(loaded: LoadedRun, progress: Progress) -> str:
        return diagnose_split(loaded, split, MOST_SAMPLES, progress=progress, record=record)

    seconds = len(worklist) * model_tasks.pass_time(run).forward
    key = ("samples", split.fingerprint)
    return model_tasks.result_or_progress(run, key, work, "Diagnose all", seconds, unasked=UNASKED_SECONDS)


def ordered(run: RunFolder, worklist: Worklist, csv: str | None) -> list[int]:
    """Return the positions of the cases as the list shows them; as given until it is complete."""
    rows = [] if csv is None else worklist_rows(csv)
    if len(rows) < len(worklist):
        return list(range(len(worklist)))
    return [row.position for row in _filtered(run, in_order(rows, _order(rows)))]


def _order(rows: Sequence[WorklistRow]) -> Any:
    """Return the chosen order; of numbers by the largest first, unless another of their orders is chosen."""
    orders = _orders(rows)
    chosen = st.session_state.get("set_order")
    return chosen if chosen in orders else next(iter(orders))


def _orders(rows: Sequence[WorklistRow]) -> dict[str, str]:
    return ORDERS_OF_NUMBERS if any(row.of_number for row in rows) else ORDERS


def _filtered(run: RunFolder, rows: list[WorklistRow]) -> list[WorklistRow]:
    chosen = st.session_state.get("set_filter") or []
    noted = finding.findings(run)
    if NOT_READ in chosen:
        rows = [row for row in rows if row.id not in noted]
    answers = [name for name in chosen if name != NOT_READ]
    return [row for row in rows if not answers or row.headline in answers]


def cards(run: RunFolder, worklist: Worklist, csv: str | None, hidden: bool) -> None:
    """Draw the list, a page at a time.

    Args:
        hidden: keep the answers to images that the reader has not read yet to itself.
    """
    rows = [] if csv is None else worklist_rows(csv)
    headlines = list(dict.fromkeys(row.headline for row in in_order(rows, "urgency") if row.value is None))
    orders = _orders(rows)
    if st.session_state.get("set_order") not in (None, *orders):
        del st.session_state["set_order"]  # of another kind of list
    left, right = st.columns([1, 2])
    left.segmented_control(
        "Order",
        list(orders),
        default=next(iter(orders)),
        required=True,
        format_func=orders.__getitem__,
        key="set_order",
        persist_state="session",
        help="What the model does not answer comes first." if orders is ORDERS_OF_NUMBERS else HELP,
    )
    options = [NOT_READ] if hidden else [*headlines, NOT_READ]
    if set(st.session_state.get("set_filter") or []) - set(options):
        del st.session_state["set_filter"]  # of another list
    right.pills(
        "Show only", options, selection_mode="multi", key="set_filter", persist_state="session", format_func=plain
    )
    by_position = {row.position: row for row in rows}
    positions = ordered(run, worklist, csv)
    pages = max(1, -(-len(positions) // A_PAGE))
    number = min(st.session_state.get("list_page", 1), pages)
    shown = positions[(number - 1) * A_PAGE : number * A_PAGE]
    with st.container(horizontal=True):
        for position in shown:
            with st.container(border=True, width=CARD_PIXELS):
                _card(run, worklist, position, by_position.get(position), hidden)
    if pages > 1:
        st.pagination(pages, key="list_page")
    if csv:
        noted = finding.findings(run)  # a download is made outside the session
        st.download_button(
            "List with my findings (CSV)",
            lambda: with_findings(csv, noted),
            "worklist.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/download:",
        )


def _card(run: RunFolder, worklist: Worklist, position: int, row: WorklistRow | None, hidden: bool) -> None:
    """Draw a case: its thumbnail, the answer, the probability that orders the list, and the reader's finding."""
    _thumbnail(run, worklist, position, None if row is None else row.key_slice)
    noted = finding.findings(run)
    label = _title(worklist, position)
    if row is not None and hidden and not row.error and row.id not in noted:
        label = "Not read yet"
    elif row is not None:
        label = row.headline
    st.button(plain(label), key=f"open-{position}", on_click=open_case, args=(position,), type="tertiary", wrap=True)
    lines = []
    if row is not None and row.answered and row.urgency and label == row.headline:
        lines.append(probability(row.urgency))
    if row is not None and row.slices > 1:
        lines.append(f"{row.slices:,} slices" + ("" if row.key_slice is None else f", riskiest {row.key_slice + 1:,}"))
    if row is not None and row.id in noted:
        lines.append(f"You: {noted[row.id]}")
    if row is not None and row.error:
        lines.append(row.error)
    if lines:
        st.caption("  \n".join(map(plain, lines)))


def _title(worklist: Worklist, position: int) -> str:
    """Return what a case is called before it has an answer."""
    is_series = worklist.samples is None and isinstance(worklist.cases[position], Series)
    return f"{'Series' if is_series else 'Image'} {position + 1}"


def _thumbnail(run: RunFolder, worklist: Worklist, position: int, number: int | None) -> None:
    """Draw a small image, decoded once per session; of a series the slice of this number, or the middle one."""
    cache = st.session_state.setdefault("thumbnails", {})
    key = (worklist.identity, position, number)
    if key not in cache:
        case = image.open_case(run, worklist, position, number)
        cache[key] = None if isinstance(case, ShpeftError) else thumbnails.small(case.image)
    if (picture := cache[key]) is None:
        st.caption(":material/broken_image:")
    else:
        style = "width:100%;aspect-ratio:1;object-fit:contain;border-radius:4px;background:#000"
        st.html(thumbnails.img_tag(picture, _title(worklist, position), style))


def open_case(position: int | None) -> None:
    """Open a case, or the list."""
    st.session_state["open_case"] = position


def navigation(positions: list[int], position: int) -> None:
    """Draw the way to the previous and the next case and back to the list; N and P do the same."""
    at = positions.index(position) if position in positions else 0
    st.button(
        "Previous",
        key="previous",
        shortcut="P",
        icon=":material/chevron_left:",
        disabled=at == 0,
        on_click=open_case,
        args=(positions[max(0, at - 1)],),
    )
    st.caption(f"{at + 1} of {len(positions)}", width="content")
    st.button(
        "Next",
        key="next",
        shortcut="N",
        icon=":material/chevron_right:",
        disabled=at + 1 == len(positions),
        on_click=open_case,
        args=(positions[min(len(positions) - 1, at + 1)],),
    )
    st.button("All images", key="list", icon=":material/grid_view:", on_click=open_case, args=(None,))

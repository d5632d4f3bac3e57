"""Text of unknown origin stays text in Markdown."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shpeft.support.markdown import ADDRESS, JOINER, code, plain

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

MARKS = list("\\`*_{}[]()<>#+-.!|~$:&=^\"'/@ \n\tab1")
PARTS = st.sampled_from([*MARKS, "http://evil.example", "<img src=x>", "![x](y)", "&lt;", "```", "1. "])


def shown(markdown: str) -> str:
    """Return the text of rendered Markdown; anything but paragraphs and line breaks fails."""
    page = RENDERER.render(markdown)
    assert set(re.findall(r"</?(\w+)", page)) <= {"p", "br", "code"}, page
    assert all(ADDRESS.fullmatch(html.unescape(address)) for address in re.findall(r"<code>(.*?)</code>", page)), page
    page = re.sub(r"</?code>", "", page)
    lines = re.sub(r"<br ?/?>\n?", "\n", page)
    return html.unescape(re.sub(r"</?p>", "", lines)).replace(JOINER, "")


@given(st.lists(PARTS, max_size=12).map("".join))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert shown(plain(text)).split() == text.split()


@pytest.mark.parametrize(
    "text", ["Glioma (grade 2)", "No finding", "run_1", "AUROC 0.93", "12:30", "-0.5", "a < b", "5 %", "a+b, c-d/e"]
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (":material/delete:", r":material[/_]\w+:"),
        (":material_delete:", r":material[/_]\w+:"),
        (":streamlit:", r":streamlit:"),
        (":tada:", r":[\w+-]+:"),
        ("a:+1:", r":[\w+-]+:"),
        ("www.evil.example", r"www\."),
        ("mail a.b@evil.example", r"\w@\w"),
        ("a -> b <- c <-> d -- e >= f <= g ~= h", r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)"),
    ],
)
def test_what_streamlit_replaces_in_text_is_parted(text: str, pattern: str) -> None:
    """Its plugins look at the text after the escapes are undone."""
    unescaped = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", plain(text))
    assert re.search(pattern, text)
    assert not re.search(pattern, unescaped)
    assert unescaped.replace(JOINER, "") == text


def test_an_address_can_be_copied_and_is_no_link() -> None:
    assert plain("see https://evil.example/a_b.") == "see `https://evil.example/a_b.`"


@given(st.lists(PARTS, max_size=12).map("".join).filter(str.strip))
def test_code_holds_the_text(text: str) -> None:
    page = RENDERER.render(code(text))
    assert re.fullmatch(r"<p><code>[^<]*</code></p>\n", page), page
    assert html.unescape(page[9:-12]).split() == text.split()

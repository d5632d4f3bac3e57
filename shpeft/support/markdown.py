"""Text of unknown origin in Markdown: shown as it is, whatever it looks like."""

import re

JOINER = "\N{WORD JOINER}"
"""Invisible; it parts what renderers look for after they have undone the escapes: icons, emoji, links, arrows."""

MARKUP = re.compile(r"[\\`*\[\]~|$]|<(?=[A-Za-z/!?])|&(?=[A-Za-z#])|:(?=[A-Za-z])|(?<![^\W_])_|_(?![^\W_])")
"""What means something anywhere in a line; an underscore within a word does not."""

FIRST = re.compile(r"^(?:[#>]|[-+=](?=[-=\s]|$))", re.MULTILINE)
"""What means something at the beginning of a line."""

LATE = re.compile(
    r"www(?=\.)|(?<=[\w.+-])@(?=\w)|(?<=:)[\w+-]+(?=[:/])|^\d{1,9}(?=[.)](?:\s|$))|(?:^|(?<=\s))[<~>-](?=[->=])",
    re.IGNORECASE | re.MULTILINE,
)
"""What is replaced in the text itself, after backslashes are gone, or cannot have one."""


ADDRESS = re.compile(r"(https?://[^\s|`]+)", re.IGNORECASE)
"""An address, which would become a link; as code it does not, and can still be copied."""


def plain(text: object) -> str:
    """Return Markdown that shows the text as it is: names, notes, addresses, errors.

    The escapes cover CommonMark, GitHub's extensions, and Streamlit's colors, icons, emoji, arrows and formulas.

    Args:
        text: anything; its ``str`` is shown.

    Examples:
        >>> plain("run_1: AUROC 0.93 (test)")
        'run_1: AUROC 0.93 (test)'
        >>> print(plain("![x](//evil.example/a.png) <img src=x> $a$ **b**"))
        !\\[x\\](//evil.example/a.png) \\<img src=x> \\$a\\$ \\*\\*b\\*\\*
    """
    lines = re.sub(r"^[ \t]+", "", str(text), flags=re.MULTILINE)  # an indented line would be code
    parts = ADDRESS.split(lines)
    parts[::2] = map(_escaped, parts[::2])
    parts[1::2] = map(code, parts[1::2])
    return "".join(parts).replace("\n", "  \n")


def _escaped(text: str) -> str:
    parted = LATE.sub(lambda match: match[0] + JOINER, text)
    for markup in (MARKUP, FIRST):
        parted = markup.sub(lambda match: f"\\{match[0]}", parted)
    return parted


def code(text: object) -> str:
    """Return Markdown that shows the text as code in a line: paths, commands, settings.

    Examples:
        >>> code("a`b"), code("runs/$HOME")
        ('``a`b``', '`runs/$HOME`')
    """
    line = " ".join(str(text).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"

"""Whatever a page shows is written in its source, a number, or escaped: no text of a file or address is Markdown."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "app"

LABELED = """
    badge button caption checkbox download_button error expander file_uploader form_submit_button header info markdown
    metric multiselect number_input pills popover radio segmented_control select_slider selectbox slider spinner status
    subheader success tabs text_area text_input title toast toggle warning write
"""
MARKDOWN = dict.fromkeys(LABELED.split(), 0) | {"page_link": 1, "progress": 1, "image": 1}
"""Elements that render Markdown, and the position of their label or text."""

KEYWORDS = {"body", "label", "text", "caption", "captions", "help"}
"""Their arguments of this name are Markdown, too."""

OPTIONS = {"radio", "segmented_control", "pills"}
"""Elements whose options are Markdown."""

NUMBERS = """
    len int round share budget_text percent interval probability format_count format_difference format_duration
    points strftime
"""
SAFE_CALLS = {"plain", "code", *NUMBERS.split()}
"""Functions that escape, or return a number as text."""

SAFE_NAMES = {
    "shpeft/config/schema": ("about", "help_of"),
    "shpeft/compare/report/summary": ("answer", "missing_table", "describe_ranks"),
    "shpeft/runs/model_card": ("model_card", "run_card"),
}
"""Functions of the library that return Markdown; they escape what they are given."""

LIBRARY_MARKDOWN = {name for names in SAFE_NAMES.values() for name in names}
SOURCES = sorted(APP.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return with_parents(ast.parse(path.read_text(encoding="utf-8")))


def with_parents(module: ast.Module) -> ast.Module:
    """Return a syntax tree whose nodes know their parents."""
    for node in ast.walk(module):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    return module


@cache
def functions() -> dict[str, list[ast.FunctionDef]]:
    """Return the functions of the app by name."""
    named: dict[str, list[ast.FunctionDef]] = {}
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                named.setdefault(node.name, []).append(node)
    return named


def called(node: ast.Call) -> str:
    """Return the last name of what a call calls."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def enclosing(node: ast.AST) -> ast.AST:
    """Return the function or module around a node."""
    while not isinstance(node, ast.FunctionDef | ast.Module | ast.Lambda):
        node = node.parent  # type: ignore[attr-defined]
    return node


def assigned(name: ast.Name) -> Iterator[ast.expr | None]:
    """Yield what a name of a function stands for; None if it is not known."""
    scope = enclosing(name)
    if isinstance(scope, ast.FunctionDef) and name.id in {
        arg.arg for arg in ast.walk(scope.args) if isinstance(arg, ast.arg)
    }:
        yield from arguments(scope, name.id)
        return
    known = False
    for node in ast.walk(scope):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            targets, value = [node.target], node.value
        elif isinstance(node, ast.For | ast.comprehension):
            targets, value = [node.target], node.iter
        for target in targets:
            for part, expression in aligned(target, value):
                if part.id == name.id:
                    known = True
                    yield expression
    if not known:
        yield None


def aligned(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[ast.Name, ast.expr | None]]:
    """Yield each name of an assignment or loop with the expression that its value comes from."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple | ast.Call):
        values = value.elts if isinstance(value, ast.Tuple) else value.args
        if isinstance(value, ast.Call) and called(value) == "enumerate":
            values = [ast.Constant(0), value.args[0]]
        if len(values) == len(target.elts) and (isinstance(value, ast.Tuple) or called(value) in {"zip", "enumerate"}):
            for part, expression in zip(target.elts, values, strict=True):
                yield from aligned(part, expression)
            return
    yield from ((part, value) for part in ast.walk(target) if isinstance(part, ast.Name))


def arguments(function: ast.FunctionDef, name: str) -> Iterator[ast.expr | None]:
    """Yield what the app passes to an argument, and its default."""
    args = [*function.args.posonlyargs, *function.args.args]
    names = [arg.arg for arg in args]
    defaults = dict(zip(names[::-1], function.args.defaults[::-1], strict=False))
    defaults |= {a.arg: d for a, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d}
    if name in defaults:
        yield defaults[name]
    calls = [
        node
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and called(node) == function.name
    ]
    if not calls and name not in defaults:
        yield None
    for call in calls:
        position = names.index(name) if name in names else len(call.args)
        keyword = next((k.value for k in call.keywords if k.arg == name), None)
        if keyword is not None:
            yield keyword
        elif position < len(call.args):
            yield call.args[position]


def is_safe(node: ast.AST | None, seen: frozenset[ast.AST] = frozenset()) -> bool:
    """Return whether an expression is text of the source, a number, or escaped."""
    if node is None:
        return False
    if node in seen:  # defined by itself: the other definitions decide
        return True
    seen |= {node}

    def safe(part: ast.AST | None) -> bool:
        return is_safe(part, seen)

    match node:
        case ast.Constant():
            return True
        case ast.JoinedStr():
            return all(safe(part) for part in node.values)
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=[ast.Constant(value=str(spec))])) if spec:
            return spec[-1] in "defgn%," or spec.startswith("%")
        case ast.FormattedValue() | ast.Starred():
            return safe(node.value)
        case ast.BinOp(op=ast.Mult() | ast.Sub() | ast.Div() | ast.FloorDiv()):
            return True  # of two numbers, or a text repeated
        case ast.BinOp(op=ast.Add(), right=ast.Constant(value=int())):
            return True  # a number
        case ast.BinOp():
            return safe(node.left) and safe(node.right)
        case ast.IfExp():
            return safe(node.body) and safe(node.orelse)
        case ast.BoolOp():
            return all(safe(part) for part in node.values)
        case ast.Compare() | ast.UnaryOp():
            return True
        case ast.List() | ast.Tuple() | ast.Set():
            return all(safe(part) for part in node.elts)
        case ast.Dict():
            return all(safe(part) for part in [*filter(None, node.keys), *node.values])
        case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
            return safe(node.elt)
        case ast.Name():
            return node.id.lstrip("_").isupper() or all(safe(value) for value in assigned(node))
        case ast.Attribute():
            return node.attr.isupper() or safe_attribute(node)
        case ast.Subscript():
            return safe(node.value)
        case ast.Call():
            return safe_call(node, safe)
    return False


def safe_attribute(node: ast.Attribute) -> bool:
    """Return whether an attribute is one of an entry of a constant, such as ``METHODS[name].title``."""
    return is_safe(node.value)


def safe_call(node: ast.Call, safe: Callable[[ast.AST | None], bool]) -> bool:
    """Return whether a call returns safe text."""
    name = called(node)
    if name in SAFE_CALLS or name in LIBRARY_MARKDOWN:
        return True
    if isinstance(node.func, ast.Attribute) and name in {"join", "format"}:
        return safe(node.func.value) and all(safe(arg) for arg in node.args)
    if isinstance(node.func, ast.Attribute) and name in {
        "partition",
        "lower",
        "strip",
        "items",
        "values",
        "keys",
        "get",
    }:
        return safe(node.func.value)
    if name == "map":
        return isinstance(node.args[0], ast.Name) and node.args[0].id in SAFE_CALLS
    if name in {"list", "sorted", "tuple", "zip", "enumerate", "fromkeys", "reversed", "dict"}:
        return all(safe(arg) for arg in node.args)
    if name in functions() and all(f.returns is not None for f in functions()[name]):
        returned = [
            r for f in functions()[name] for r in ast.walk(f) if isinstance(r, ast.Return) and enclosing(r) is f
        ]
        return bool(returned) and all(safe(r.value) for r in returned)
    return False


def texts(module: ast.Module) -> Iterator[tuple[int, str, ast.expr]]:
    """Yield the line, the element and the expression of each text that a page renders as Markdown."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or called(node) not in MARKDOWN:
            continue
        root = node.func.value
        if not isinstance(root, ast.Attribute):  # run.notes.write
            name, at = called(node), MARKDOWN[called(node)]
            if len(node.args) > at:
                yield node.lineno, name, node.args[at]
            for keyword in node.keywords:
                if keyword.arg in KEYWORDS:
                    yield node.lineno, name, keyword.value
            if name in OPTIONS:
                form = next((k.value for k in node.keywords if k.arg == "format_func"), None)
                options = next((k.value for k in node.keywords if k.arg == "options"), None)
                escaped = isinstance(form, ast.Name) and form.id == "plain"
                option = form.body if isinstance(form, ast.Lambda) else options or next(iter(node.args[1:2]), None)
                if option is not None and not escaped:
                    yield node.lineno, name, option


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(APP)))
def test_texts_are_the_sources_own_or_escaped(path: Path) -> None:
    unsafe = [
        f"{path.name}:{line} {name}({ast.unparse(text)[:90]})"
        for line, name, text in texts(tree(path))
        if not is_safe(text)
    ]
    assert not unsafe, "show it with shpeft.support.markdown.plain: " + "; ".join(unsafe)


def test_the_check_sees_what_is_not_escaped() -> None:
    """A name from a loop, an argument, an attribute or a format without a number is not safe; an escaped one is."""
    scripts = {
        "st.caption(f'**{run.name}**')": False,
        "for name in names: st.caption(name)": False,
        "st.button(label, help=f'{reason}')": False,
        "st.radio('Your answer', classes)": False,
        "st.caption(' '.join(names))": False,
        "st.caption(f'{name:>10}')": False,
        "st.radio('Your answer', classes, format_func=plain)": True,
        "st.caption(f'**{plain(run.name)}**, {loss:.3f}')": True,
        "for title, row in zip(TITLES, rows): st.header(title)": True,
    }
    for script, expected in scripts.items():
        module = with_parents(ast.parse(script))
        assert all(is_safe(text) for _, _, text in texts(module)) is expected, script

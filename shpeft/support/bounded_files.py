"""Read files of unknown origin within bounds: regular files of a limited size, and documents of a limited depth.

A pipe would wait for ever, a device has no end, and a page of YAML can stand for gigabytes.
"""

import json
import math
import os
import stat
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from shpeft.support.limits import DOCUMENT_DEPTH, DOCUMENT_NODES

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader, where PyYAML was built with it, is ten times faster: a page of the app reads every run's file."""


def read_regular_file(path: str | Path, most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is a pipe, a device, a folder or a socket, or it is larger.

    Examples:
        >>> read_regular_file("/dev/zero", 100)
        Traceback (most recent call last):
            ...
        ValueError: it is not a regular file
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size / 2**20:,.1f} MiB; at most {most / 2**20:,.0f} MiB are read")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it grew beyond {most / 2**20:,.0f} MiB while it was read")
    return data


def open_regular_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is a pipe, a device, a folder or a socket.
    """
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return open(descriptor, "rb")


def parse_json(data: bytes | str) -> Any:
    """Return a JSON document whose numbers are finite and whose keys are unique.

    Raises:
        ValueError: not JSON, NaN or infinities, a key twice, or too many levels.

    Examples:
        >>> parse_json('{"loss": 0.5}')
        {'loss': 0.5}
        >>> parse_json('{"loss": Infinity}')
        Traceback (most recent call last):
            ...
        ValueError: Infinity is not a number of JSON
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"it has more than {DOCUMENT_DEPTH} levels") from None
    _check_depth(document, DOCUMENT_DEPTH)
    return document


def parse_yaml(text: str) -> Any:
    """Return a YAML document of plain values, without aliases.

    Raises:
        ValueError: not YAML, aliases, values that are neither text, numbers, true, false nor null, or too many levels
            or values.

    Examples:
        >>> parse_yaml("training: {epochs: 5}")
        {'training': {'epochs': 5}}
        >>> parse_yaml("a: &x [1, 2]\\nb: *x")
        Traceback (most recent call last):
            ...
        ValueError: it repeats a part by an alias (line 1); write it out
    """
    try:
        _count_events(text)
        loader = LOADER(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_node(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(_yaml_reason(error)) from None
    except (RecursionError, OverflowError):
        raise ValueError(f"it has more than {DOCUMENT_DEPTH} levels, or a number without end") from None


def _yaml_reason(error: Exception) -> str:
    """Return what is wrong with a YAML document and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or "it is no YAML"
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


def _count_events(text: str) -> None:
    """Refuse a document of too many parts or levels as soon as they are counted.

    Nodes are made recursively: with PyYAML 6.0.2, 50,000 levels end the process.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DOCUMENT_DEPTH:
            raise ValueError(f"it has more than {DOCUMENT_DEPTH} levels")
        if count > 2 * DOCUMENT_NODES:
            raise ValueError(f"it has more than {DOCUMENT_NODES:,} keys and values")


PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))


INTEGER = "tag:yaml.org,2002:int"

DIGITS = 100
"""Most digits of a whole number; Python refuses to write numbers of thousands."""


def _check_node(root: yaml.Node) -> None:
    """Check a tree of nodes before any of it becomes a Python object; aliases make nodes meet twice."""
    seen, waiting = set[int](), deque([(root, 1)])
    while waiting:
        node, depth = waiting.popleft()
        line = node.start_mark.line + 1
        if id(node) in seen:
            raise ValueError(f"it repeats a part by an alias (line {line}); write it out")
        seen.add(id(node))
        if len(seen) > DOCUMENT_NODES:
            raise ValueError(f"it has more than {DOCUMENT_NODES:,} keys and values")
        if depth > DOCUMENT_DEPTH:
            raise ValueError(f"it has more than {DOCUMENT_DEPTH} levels (line {line})")
        if node.tag not in PLAIN:
            kind = node.tag.removeprefix("tag:yaml.org,2002:")[:40]
            raise ValueError(f"it has a value of kind {kind} (line {line}); put it in quotes if it is text")
        if node.tag == INTEGER and len(node.value) > DIGITS:
            raise ValueError(f"it has a number of {len(node.value):,} digits (line {line})")
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]


def _check_depth(document: Any, most: int) -> None:
    level = [document]
    for _ in range(most):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"it has more than {most} levels")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key {next(n for n in names if names.count(n) > 1)[:40]!r} twice")
    return document

"""Reading files of unknown origin: regular files of bounded size, documents of bounded depth, plain values."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shpeft.support.bounded_files import parse_json, parse_yaml, read_regular_file
from shpeft.support.limits import DOCUMENT_DEPTH, DOCUMENT_NODES

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
"""A page of YAML that stands for 2⁴⁰ values."""


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(file)
    assert read_regular_file(file, 5) == read_regular_file(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="at most 0 MiB"):
        read_regular_file(file, 4)
    with pytest.raises(FileNotFoundError):
        read_regular_file(tmp_path / "none", 4)


@pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and devices of POSIX")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    began = time.monotonic()
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/tty"), tmp_path, sparse):
        with pytest.raises((ValueError, OSError)):
            read_regular_file(path, 2**20)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_regular_file(tmp_path / "socket", 2**20)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(BOMB, "alias", id="bomb"),
        ("a: &a [*a]", "alias"),
        ("a: {<<: {b: 1}}", "merge"),
        pytest.param("[" * 100_000, "levels|nesting|recursion|depth", id="very deep"),
        pytest.param("[" * (DOCUMENT_DEPTH + 1) + "]" * (DOCUMENT_DEPTH + 1), f"{DOCUMENT_DEPTH} levels", id="deep"),
        pytest.param("[" + "1," * DOCUMENT_NODES + "]", f"{DOCUMENT_NODES:,} keys and values", id="long"),
        ("a: !!float x", "convert"),
        ("a: 2026-11-23", "timestamp"),
        ("a: !!binary aGk=", "binary"),
        ("a: !!python/object/apply:os.system [ls]", "python"),
        ("a: !!set {b}", "set"),
        ("a: b: c", "mapping values"),
        ("{[a]: b}", "unhashable"),
    ],
)
def test_hostile_yaml_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e999", "too large"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        pytest.param("[" * 100_000, "levels", id="very deep"),
        pytest.param("[" * 40 + "]" * 40, "levels", id="deep"),
        pytest.param("9" * 10_000, "digits", id="digits"),
        ("{", "Expecting"),
        (b"\xff\xfe\xff", "decode|codec"),
    ],
)
def test_hostile_json_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@given(st.text(alphabet="ab:-[]{}&*!<>|'\"\n 01.e?#,%@`") | st.binary())
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    for parse in (parse_json, lambda data: parse_yaml(data if isinstance(data, str) else data.decode("latin-1"))):
        with contextlib.suppress(ValueError):
            parse(text)


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits of Linux")
def test_a_bomb_takes_little_memory() -> None:
    program = (
        "import sys; from shpeft.support.bounded_files import parse_yaml\n"
        "try: parse_yaml(sys.stdin.read())\n"
        "except ValueError: print('refused')"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    result = subprocess.run(
        [sys.executable, "-c", program], input=BOMB, capture_output=True, text=True, timeout=60, preexec_fn=limit
    )
    assert result.stdout == "refused\n", result.stderr


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 4000])
def test_a_number_of_thousands_of_digits_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        parse_yaml(f"seed: {number}")


def test_a_long_document_is_refused_by_its_count_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="more than 50,000 keys"):
        parse_yaml("".join(f"key{number}: 1\n" for number in range(100_000)))

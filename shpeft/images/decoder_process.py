"""Decode compressed DICOM frames in a child process, because GDCM ends the process on some damaged files.

Only where other people's files arrive by themselves or end other people's work: with accounts, ``serve`` and ``watch``.
It takes two milliseconds more for a small frame and tens for a large one (``benchmarks/decoder_child.py``), which a
folder of a million scans on one's own computer need not pay. Long frames of run lengths are decoded here everywhere:
a byte of them can stand for 64, and the child's memory is limited.
"""

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from shpeft.errors import ShpeftError
from shpeft.images.decoder_child import receive, send

SECONDS = 60.0
"""How long a frame may take; one of 80 megapixels takes about five."""

PIPE_BYTES = 2**20

CHILDREN = 2
"""Most children; further threads wait."""


class DecodingFailed(ShpeftError):
    """The frame is damaged, or its decoder does not support it."""


class DecoderProcess:
    """A child that decodes one frame at a time."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shpeft.images.decoder_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": paths} | threads,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe)

    def decode(self, fields: dict[str, Any], frame: bytes, seconds: float = SECONDS) -> np.ndarray:
        """Return the values of a frame.

        Raises:
            DecodingFailed: the decoder refused it, took too long, or ended; the child is of no use after the latter.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            send(self._process.stdin, fields, frame)
            answer, values = receive(self._process.stdout)
        except (OSError, EOFError):
            self.close()
            raise DecodingFailed("the decoder ended") from None
        finally:
            timer.cancel()
        if "error" in answer:
            raise DecodingFailed(answer["error"])
        return np.frombuffer(values, answer["dtype"]).reshape(answer["shape"])

    @property
    def alive(self) -> bool:
        """Whether it can decode."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()


def _widen(pipe: Any) -> None:
    """Give a pipe a mebibyte instead of 64 KiB, so that both sides take turns less often."""
    with suppress(ImportError, AttributeError, OSError):  # Linux alone
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


_idle: list[DecoderProcess] = []
_lock = threading.Lock()
_turns = threading.BoundedSemaphore(CHILDREN)


def decode_frame(syntax: str, frame: bytes, options: dict[str, Any]) -> np.ndarray:
    """Decode one compressed frame in a child, which is started when it is first needed and stays for the next frame.

    Args:
        syntax: the transfer syntax.
        frame: the frame's bytes.
        options: pydicom's, of which plain texts and numbers are passed on.

    Raises:
        DecodingFailed: the frame is damaged, or its decoder does not support it.
    """
    plain = {name: value for name, value in options.items() if isinstance(value, str | int | float)}
    fields = {"syntax": str(syntax), "options": plain | {"number_of_frames": 1}}
    with _turns:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None or not child.alive:
            child = DecoderProcess()
        try:
            return child.decode(fields, frame)
        finally:
            if child.alive:
                with _lock:
                    _idle.append(child)


def _close_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().close()


atexit.register(_close_all)

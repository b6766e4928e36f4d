"""bridge/terminal.py: whoever writes is never held up by whoever reads."""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from bridge.terminal import TEXTS_MAX, Writer

SECONDS_MAX = 10.0
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from bridge.terminal import Writer

writer = Writer(sys.stdout)
writer.lines("nobody will know")
writer.drain(0.05)
"""


class Gated(io.StringIO):
    """A stream whose reader takes nothing before `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.gate.wait(SECONDS_MAX)
        return super().write(text)


class Failing(io.StringIO):
    """A stream that refuses its first text."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._errors = [error]

    def write(self, text: str) -> int:
        if self._errors:
            raise self._errors.pop()
        return super().write(text)


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full and has a reader that does not read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)  # ends the write that waits
    os.close(writer)


def drained(writer: Writer) -> bool:
    """Return whether everything was taken or given up before a long time was over."""
    began = time.monotonic()
    writer.drain(SECONDS_MAX)
    return time.monotonic() - began < SECONDS_MAX / 2


def test_writes_in_order() -> None:
    """Texts and lines arrive as they were given; what `write` returns is the text's length."""
    stream = io.StringIO()
    writer = Writer(stream)

    assert writer.write("a €") == 3
    writer.lines("b", "c")
    writer.flush()

    assert drained(writer)
    assert stream.getvalue() == "a €b\nc\n"


def test_a_full_pipe_holds_nobody_up(full_pipe: int) -> None:
    """Nobody reads: thousands of lines and a drain take no longer than they may."""
    # Never closed, so that the thread cannot write to what another test has opened.
    writer = Writer(os.fdopen(os.dup(full_pipe), "w", closefd=False))
    began = time.monotonic()

    for _ in range(5_000):
        writer.lines("a status line")
    writer.drain(0.05)

    assert time.monotonic() - began < SECONDS_MAX


@pytest.mark.parametrize("disk", [False, True], ids=["pipe", "disk"])
def test_the_interpreter_ends(full_pipe: int, disk: bool) -> None:
    """A pipe or disk that is full changes nothing about how the process ends."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},  # and no PYTHONUNBUFFERED, which would hide it
            stdout=full if disk else full_pipe,
            stderr=subprocess.PIPE,
            timeout=SECONDS_MAX,
        )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_character_that_the_stream_lacks(tmp_path: Path) -> None:
    """It is escaped; the text is not lost for it."""
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as stream:
        writer = Writer(stream)
        writer.lines("5 €")
        assert drained(writer)

    assert path.read_text() == "5 \\u20ac\n"


def test_drops_the_oldest() -> None:
    """So many texts wait; of more, the oldest are missing and the rest is in order."""
    stream = Gated()
    writer = Writer(stream)
    writer.lines("taken already")
    assert stream.entered.wait(SECONDS_MAX)

    for number in range(TEXTS_MAX + 5):
        writer.lines(str(number))
    stream.gate.set()

    assert drained(writer)
    expected = ["taken already", *map(str, range(5, TEXTS_MAX + 5))]
    assert stream.getvalue().splitlines() == expected


def test_drain_waits_for_the_last_text() -> None:
    """It returns when all is written, not before."""
    stream = Gated()
    writer = Writer(stream)
    writer.lines("first", "last")
    timer = threading.Timer(0.05, stream.gate.set)
    timer.start()

    assert drained(writer)

    assert stream.getvalue() == "first\nlast\n"
    timer.join()


def closed_stream(_: pytest.FixtureRequest) -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def full_disk(request: pytest.FixtureRequest) -> TextIO:
    stream = Path("/dev/full").open("w")  # noqa: SIM115 - closed below

    def close() -> None:
        with contextlib.suppress(OSError):
            stream.close()

    request.addfinalizer(close)
    return stream


@pytest.mark.parametrize("make", [lambda _: None, closed_stream, full_disk])
def test_what_cannot_be_written_is_dropped(
    make: Callable[[pytest.FixtureRequest], TextIO | None], request: pytest.FixtureRequest
) -> None:
    """No stream, a closed one, a full disk: nothing is raised, nothing is waited for."""
    writer = Writer(make(request))

    for _ in range(3):
        writer.lines("nobody will know")
        assert drained(writer)


@pytest.mark.parametrize("error", [OSError(28, "no space"), ValueError("closed")])
def test_goes_on_after_an_error(error: Exception) -> None:
    """A text that cannot be written is missing, the next one is not."""
    stream = Failing(error)
    writer = Writer(stream)

    writer.lines("lost")
    writer.lines("written")

    assert drained(writer)
    assert stream.getvalue() == "written\n"

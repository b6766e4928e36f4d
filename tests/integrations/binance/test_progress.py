"""Progress on stderr: nothing while it is quick, a bar on a terminal, lines in a log."""

import io

import pytest

from integrations.binance import progress
from integrations.binance.progress import AFTER_SECONDS, Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_quick_says_nothing(clock: list[float]) -> None:
    """Up to two seconds there is no output at all, not even an end of line."""
    stream = Terminal()
    with Progress("run", stream) as shown:
        clock[0] += AFTER_SECONDS - 0.01
        shown.show("converting", 0.5)
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar_that_is_written_over(clock: list[float]) -> None:
    """One line, ended when it is over."""
    stream = Terminal()
    with Progress("run", stream) as shown:
        for fraction in (0.0, 0.5, 1.0):
            clock[0] += AFTER_SECONDS
            shown.show("running", fraction)
    text = stream.getvalue()
    assert text.count("\r") == 3
    assert "#" * 15 + "." * 15 in text
    assert text.endswith("100%\n")


def test_a_log_has_a_line_now_and_then(clock: list[float]) -> None:
    """Not one for each call."""
    stream = io.StringIO()
    with Progress("run", stream) as shown:
        for number in range(100):
            clock[0] += 0.125
            shown.show("running", number / 100)
    lines = [f"run: running {done}%" for done in (15, 55, 95)]
    assert stream.getvalue().splitlines() == lines

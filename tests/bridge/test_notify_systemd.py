"""What systemd is told, datagram by datagram, and when."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.notify_systemd import BEAT_SECONDS, FEEDS_MIN, Manager
from tests.bridge.notified import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_nobody_is_told() -> None:
    """Without NOTIFY_SOCKET there is no manager, and telling it is harmless."""
    manager = Manager({})

    assert not manager.is_there
    assert not manager.tell(READY=1)
    manager.begins("x", 1)
    manager.close()


def test_a_path(tmp_path: Path) -> None:
    """NOTIFY_SOCKET may be a path; fields come as lines, and a text with lines stays one line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.tell(READY=1, STATUS="two\nlines")
        manager.close()

        assert server.recv(1000) == b"READY=1\nSTATUS=two lines"


def test_more_time(receiver: Receiver) -> None:
    """What begins is named, with the time that it may take, in microseconds."""
    manager = Manager({"NOTIFY_SOCKET": receiver.name})
    manager.begins("waiting", 1.5)
    manager.close()

    assert receiver.heard == [{"STATUS": "waiting", "EXTEND_TIMEOUT_USEC": "1500000"}]


def test_a_manager_that_does_not_listen_holds_nothing_up(receiver: Receiver) -> None:
    """A full socket takes nothing more, and nobody waits for it."""
    manager = Manager({"NOTIFY_SOCKET": receiver.name})
    taken = [manager.tell(STATUS="x" * 1000) for _ in range(100_000)]
    manager.close()

    assert taken[0]
    assert not taken[-1]


def test_a_manager_that_is_gone(receiver: Receiver) -> None:
    """Nobody at the socket: False, no exception."""
    manager = Manager({"NOTIFY_SOCKET": receiver.name})
    receiver.__exit__()

    assert not manager.tell(READY=1)
    manager.close()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, BEAT_SECONDS),
        ({"WATCHDOG_USEC": "2000000"}, 2 / FEEDS_MIN),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2 / FEEDS_MIN),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, BEAT_SECONDS),
        ({"WATCHDOG_USEC": "3600000000"}, BEAT_SECONDS),
    ],
)
def test_how_often(given: dict[str, str], seconds: float) -> None:
    """Every few seconds, four times in a watchdog's time, and another process's is not ours."""
    assert Manager(given).beat_seconds == seconds


async def test_ready_waits_and_the_watchdog_is_fed_by_progress(receiver: Receiver) -> None:
    """Nothing is said before it is up; WATCHDOG comes with progress only, STATUS always."""
    manager = Manager({"NOTIFY_SOCKET": receiver.name, "WATCHDOG_USEC": "4000"})
    is_up, moved_ns = False, 1
    attending = asyncio.create_task(manager.attend(lambda: is_up, lambda: moved_ns, lambda: "ok"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert receiver.heard == []

    is_up = True
    await _until(lambda: receiver.values("STATUS").count("ok") >= 5)
    assert receiver.values("READY") == ["1"]
    assert receiver.values("WATCHDOG") == ["1"]

    moved_ns = 2
    await _until(lambda: len(receiver.values("WATCHDOG")) == 2)
    attending.cancel()
    manager.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of a socket, which sets no Event
            await asyncio.sleep(0.001)

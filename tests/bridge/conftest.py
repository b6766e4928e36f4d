"""Fixtures for the daemon: a dataset made once, daemons that always end, one that tests share."""

import contextlib
import itertools
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.__main__ import main
from bridge.daemon import STOP_SIGNALS
from integrations.binance import sample
from tests.bridge.processes import Daemon, Ended, environment

type Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's dataset, for reading only."""
    folder = tmp_path_factory.mktemp("dataset") / "demo"
    sample.generate(folder)
    return folder


@pytest.fixture
def start(dataset: Path, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Return `start(*words, **settings)`: a daemon of the test's own; it is over with the test."""
    numbers = itertools.count()
    with contextlib.ExitStack() as daemons:

        def run(*words: str, **settings: str) -> Daemon:
            folder = tmp_path / f"daemon-{next(numbers)}"
            folder.mkdir()
            given = {"replay__dataset": str(dataset)} | settings
            return daemons.enter_context(Daemon(folder, *words, **given))

        yield run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Return `run(**settings)`: the command in this process, for what ends before the loop runs."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def call(**settings: str) -> Ended:
        monkeypatch.setattr("os.environ", environment(settings))
        return Ended(main(["run"]), *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def demo(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that runs the demo and has filled a position; for reading only.

    Another process has the port that it wants for its embedded Redis.
    """
    folder, other = tmp_path_factory.mktemp("daemon"), socket.create_server(("127.0.0.1", 0))
    port = str(other.getsockname()[1])
    with other, Daemon(folder, replay__dataset=str(dataset), embedded__port=port) as daemon:
        daemon.until(lambda: "Redis redis://" in daemon.out, "its Redis")
        other.close()
        daemon.until(lambda: any(int(each["fills"]) > 0 for each in daemon.statuses), "a fill")
        yield daemon

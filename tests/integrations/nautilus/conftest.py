"""Datasets, and the script that runs a shadow or live: its processes always end."""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.core.control import SHADOW_FLAG
from bridge.daemon import STOP_SIGNALS
from bridge.embedded_redis import find_redis_server
from integrations.binance import sample
from integrations.nautilus import run_shadow_live
from tests.bridge.processes import Ended, environment
from tests.integrations.nautilus.shadow import MINE, Call, Script, Start
from tests.servers import RedisServer, server_or_exit


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, for reading only."""
    folder = tmp_path_factory.mktemp("dataset") / "demo"
    sample.generate(folder, minutes=5)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short dataset, for reading only."""
    path = tmp_path_factory.mktemp("dataset") / "data"
    sample.generate(path, minutes=2)
    return path


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's, with the strategy `mine:Quick`."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of the module; the shadow flag is on."""
    server = RedisServer(server_or_exit(find_redis_server()), tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        server.client.set(SHADOW_FLAG, "1")
        yield server
    finally:
        server.close()


@pytest.fixture
def start(dataset: Path, tmp_path: Path) -> Iterator[Start]:
    """Return `start(*words, **settings)`: the script of one test; it is over with the test."""
    numbers = itertools.count()
    with contextlib.ExitStack() as scripts:

        def run(*words: str, **settings: Any) -> Script:
            folder = tmp_path / f"script-{next(numbers)}"
            folder.mkdir()
            given = {"replay__dataset": str(dataset)} | settings
            return scripts.enter_context(Script(folder, *words, **given))

        yield run


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dataset: Path
) -> Iterator[Call]:
    """Return `call(*words, **settings)`: the script in this process, for what ends at once."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def call(*words: str, **settings: str) -> Ended:
        given = {"replay__dataset": str(dataset), "status__port": "0"} | settings
        monkeypatch.setattr(os, "environ", environment(given))
        return Ended(run_shadow_live.main(words), *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)

"""Fixtures for all tests: real redis-servers, and logging as it was before each test."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import structlog

from bridge import log
from bridge.embedded_redis import find_redis_server
from tests.servers import RedisServer, server_or_exit

# No deadline: the machine is shared, and asyncio's debug mode makes single examples slow.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_sessionstart() -> None:
    server_or_exit(find_redis_server())


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = _new_server(tmp_path_factory)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """The server that all tests share, emptied. Whoever kills or configures takes `make_redis`."""
    _shared_redis.client.flushall()
    return _shared_redis


@pytest.fixture
def make_redis(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., RedisServer]]:
    """Return `make(*options)`: a server of the test's own, started, with those options."""
    with contextlib.ExitStack() as servers:

        def make(*options: str) -> RedisServer:
            server = _new_server(tmp_path_factory, *options)
            servers.callback(server.close)
            server.start()
            return server

        yield make


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in (None, log.ROOT)}
    yield
    log.remove_handler()
    structlog.reset_defaults()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _new_server(folders: pytest.TempPathFactory, *options: str) -> RedisServer:
    return RedisServer(server_or_exit(find_redis_server()), folders.mktemp("redis"), *options)

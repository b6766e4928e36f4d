"""`python -m bridge doctor` for tests: called in this process, its findings by name."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from bridge import config, exits
from bridge.__main__ import main
from bridge.doctor import Finding, Level
from bridge.embedded_redis import find_redis_server
from bridge.settings import Config
from tests.servers import RedisServer, server_or_exit

KEPT = ("--appendonly", "yes")  # what makes a server of the tests a healthy one
# What warns of a machine that is loaded, as that of the tests may be.
OF_THE_LOAD = ("latency", "clock")
type Capture = Callable[[], tuple[str, str]]


class Seen(NamedTuple):
    """What doctor said: its exit code, its findings but for those that are well and warnings of a
    slow answer, stderr, and what it said of each name, in words and in numbers."""

    code: int
    found: list[Finding]
    error: str
    told: dict[str, str]
    numbers: dict[str, Mapping[str, float]]

    @property
    def is_clean(self) -> bool:
        """Whether all is well."""
        return (self.code, self.found, self.error) == (exits.DONE, [], "")

    def of(self, name: str) -> Finding:
        """Return the only finding of that name that is not well."""
        [found] = [each for each in self.found if each.name == name]
        return found

    @property
    def worst(self) -> dict[str, str]:
        """The levels of what is not well, by name."""
        return {each.name: str(each.level) for each in self.found}


def seen(capture: Capture, url: str = "", *words: str) -> Seen:
    """Examine the Redis at `url`, or that of the environment."""
    code = main(("doctor", "--json", *(("--url", url) if url else ()), *words))
    out, err = capture()
    report = json.loads(out)
    assert report["code"] == code
    found = [Finding(Level(each.pop("level")), **each) for each in report["findings"]]
    told = {each.name: each.what for each in found}
    numbers = {each.name: each.numbers for each in found}
    return Seen(code, [each for each in found if _is_meant(each)], err, told, numbers)


def _is_meant(finding: Finding) -> bool:
    is_of_the_load = finding.name.removeprefix("market ") in OF_THE_LOAD
    return finding.level is not Level.OK and (finding.level is not Level.WARN or not is_of_the_load)


def given(**settings: str) -> Config:
    """Return settings; `journal__fsync="never"` stands for journal.fsync."""
    paths = {name.replace("__", "."): value for name, value in settings.items()}
    return config.load(None, environ={}, overrides=paths)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextlib.contextmanager
def kept(folders: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Yield a server with nothing wrong."""
    server = RedisServer(server_or_exit(find_redis_server()), folders.mktemp("redis"), *KEPT)
    try:
        server.start()
        yield server
    finally:
        server.close()


def emptied(server: RedisServer) -> RedisServer:
    """Return the server as it was before the test that used it last."""
    server.client.flushall()
    server.client.config_resetstat()
    return server


def as_user(server: RedisServer, name: str, *rules: str) -> str:
    """Make a user of Redis with these rules; return the URL to be it."""
    server.client.execute_command("ACL", "SETUSER", name, "on", ">secret", *rules)
    return f"redis://{name}:secret@127.0.0.1:{server.port}/0"

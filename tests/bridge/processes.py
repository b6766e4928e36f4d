"""The daemon as a child process: started as a user would, read, waited for, always ended by pid."""

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import redis

from bridge import endpoints
from bridge.core.control import SHADOW_FLAG
from tests.servers import RedisServer, free_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 30.0
POLL_SECONDS = 0.01
# How long a server that loads takes for each key; it answers behind every tenth or so.
KEY_SECONDS = 0.005
STATUS = re.compile(
    r"\d\d:(?P<minute>\d\d):(?P<second>\d\d)  events (?P<events>\d+)  orders (?P<orders>\d+)"
    r"  fills (?P<fills>\d+)"
    r"  entries/s (?P<rate>\d+)  backlog (?P<exec>\d+) exec, (?P<market>\d+) market"
    r"(, lost (?P<lost>\d+))?  (?P<state>.+)"
)


def eventually[T](probe: Callable[[], T], what: str, *, seconds_max: float = SECONDS_MAX) -> T:
    """Return the first true answer of `probe`. AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds_max
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not within {seconds_max} s: {what}"
        time.sleep(POLL_SECONDS)
    return found


def is_dense(client: redis.Redis, key: str) -> bool:
    """Return whether the seq of every producer in a stream are 1, 2, 3, ..., each once."""
    seen: dict[str, list[int]] = {}
    for _, fields in client.xrange(key):
        seen.setdefault(fields["producer"], []).append(int(fields["seq"]))
    return bool(seen) and all(each == list(range(1, len(each) + 1)) for each in seen.values())


def loading(make_redis: Callable[..., RedisServer], *, seconds: float) -> RedisServer:
    """Return a server that answers LOADING for at least so long, now and then."""
    keys = int(seconds / KEY_SECONDS)
    server = make_redis(
        *("--rdbcompression", "no", "--key-load-delay", str(int(KEY_SECONDS * 1e6))),
        *("--loading-process-events-interval-bytes", "1024"),
    )
    server.client.mset({f"key{number}": "v" * 100 for number in range(keys)})
    server.client.save()
    server.kill()
    server.start(until_loaded=False)
    return server


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with `replay__rate="5"` as BRIDGE_REPLAY__RATE=5, and so on."""
    ours = ("BRIDGE_", "PYTHONASYNCIODEBUG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    given = {f"BRIDGE_{name.upper()}": value for name, value in settings.items() if "__" in name}
    return kept | given | {name: value for name, value in settings.items() if "__" not in name}


def allow(url: str) -> None:
    """Set the flag without which the demo sends no order, where there is a Redis to set it in."""
    client = endpoints.sync_client(url, socket_timeout=1)
    with contextlib.suppress(redis.RedisError):
        client.set(SHADOW_FLAG, "1")
    client.close()


class Ended:
    """How a process ended: its exit `code`, `out` and `err` as text."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def complaint(self) -> str:
        """What stderr says to a person: everything but the log's JSON lines."""
        return "\n".join([line for line in self.err.splitlines() if not line.startswith("{")])


class Daemon:
    """`python -m bridge run`, with ports and folders of its own. Use as a context manager.

    `settings` are environment variables as `environment` takes them; free ports are the default.
    """

    def __init__(
        self,
        folder: Path,
        *words: str,
        cwd: Path = ROOT,
        stdout: int | None = None,
        **settings: str,
    ) -> None:
        defaults = {"status__port": "0", "embedded__port": str(free_port())}
        defaults |= {"node__stop_timeout_seconds": "0.1", "redis__reconnect_seconds_max": "0.1"}
        settings = defaults | settings
        if "redis__url" in settings:
            allow(settings["redis__url"])
        self.embedded_port = int(settings["embedded__port"])
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "run", *words],
                cwd=cwd,
                env=environment(settings),
                stdout=out if stdout is None else stdout,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def logged(self) -> list[dict[str, object]]:
        """The log so far, its whole lines."""
        lines = self.err.split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def times_logged(self, event: str, **fields: object) -> int:
        """How often the log has an event with these fields."""
        wanted = {"event": event, **fields}.items()
        return sum([wanted <= each.items() for each in self.logged])

    @property
    def statuses(self) -> list[dict[str, str]]:
        """The status lines so far, as their fields."""
        return [found.groupdict() for found in STATUS.finditer(self.out)]

    @property
    def state(self) -> str:
        """The state in the last status line; empty before the first one."""
        return self.statuses[-1]["state"] if self.statuses else ""

    @property
    def port(self) -> int:
        """The port of the embedded Redis; `embedded_port` is the one that was wanted."""
        return int(self._find(r"Redis redis://127\.0\.0\.1:(\d+)/0 \("))

    @property
    def url(self) -> str:
        """The base URL of the status server."""
        return self._find(r"metrics  (http://\S+)/metrics")

    @property
    def examples(self) -> list[list[str]]:
        """The redis-cli lines to try, split as a shell would."""
        return [shlex.split(line) for line in re.findall(r"^  (\S*redis-cli .*)$", self.out, re.M)]

    def get(self, path: str) -> tuple[int, str]:
        """GET from the status server: the status code and the body."""
        address = urlsplit(self.url)
        client = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        finally:
            client.close()

    def health(self) -> tuple[int, str]:
        """The status code of /health, and the reason where there is one."""
        status, body = self.get("/health")
        return status, json.loads(body).get("reason", "")

    def metric(self, sample: str) -> float:
        """The value of one sample, such as `nautilus_bridge_connected{lane="exec"}`."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no sample {sample}")

    def until(self, probe: Callable[[], object], what: str) -> None:
        """Wait until `probe` is true. AssertionError when it takes too long or the process ends."""

        def alive_or_true() -> bool:
            has_ended = self._process.poll() is not None  # first: its last words may be the answer
            met = bool(probe())
            assert met or not has_ended, f"{what}: it ended: {self.out}{self.err}"
            return met

        eventually(alive_or_true, what)

    def until_running(self) -> Self:
        """Wait until it is healthy."""
        self.until(lambda: "Ctrl-C ends it." in self.out, "its first lines")
        self.until(lambda: self.health()[0] == 200, "health")
        return self

    def until_logged(self, event: str, **fields: object) -> None:
        """Wait for a log event with these fields."""
        self.until(lambda: self.times_logged(event, **fields), f"log event {event} {fields}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self, seconds_max: float = SECONDS_MAX) -> Ended:
        """Wait for its end. subprocess.TimeoutExpired when it does not end in time."""
        return Ended(self._process.wait(seconds_max), self.out, self.err)

    def stop(self, number: signal.Signals = signal.SIGINT) -> Ended:
        """End it as a user would, within the five seconds that are promised."""
        self.send(number)
        return self.ended(5.0)

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.out)
        assert found is not None, f"{pattern} is not in {self.out!r}"
        return found[1]

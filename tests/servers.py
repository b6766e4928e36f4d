"""Real redis-servers for tests: started on a free port, killed, paused and started again."""

import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge.embedded_redis import HOST, POLL_SECONDS, answer, end, spawn

START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 10.0
PORT_TRIES_MAX = 5
# Below those that a system gives to whoever asks for any port, on Linux from 32768 on: they are not
# taken between the look and the bind, nor while a server is away that comes back to its port.
PORTS = range(10_000, 32_000)


def server_or_exit(binary: Path | None) -> Path:
    """Return `binary`, or end the whole test run: no test is skipped for want of a server."""
    if binary is None:
        pytest.exit(
            "the tests need a real redis-server (6.2 or newer) and found none on PATH or in"
            " .tools/bin: run `make test`, which gets one by ops/find-redis, or install one",
            returncode=2,
        )
    return binary


_start = secrets.randbelow(len(PORTS))  # other processes look elsewhere
_ports = itertools.cycle([*PORTS[_start:], *PORTS[:_start]])


def free_port() -> int:
    """Return a TCP port that nothing listens on at this moment, each time another one."""
    return next(filter(_is_free, _ports))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class RedisServer:
    """A redis-server of a test. `options` are its own, such as ("--requirepass", "secret").

    `folder` keeps its data over a restart. `start`, `kill` and `terminate` must be called from the
    main thread; all of them return when it is done.
    """

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._binary = binary
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []
        self._client: redis.Redis | None = None
        named = dict(itertools.pairwise(options))
        self.password = named.get("--requirepass")

    @property
    def url(self) -> str:
        user = "" if self.password is None else f":{self.password}@"
        return f"redis://{user}{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and self._process.poll() is None

    @property
    def client(self) -> redis.Redis:
        """A client that answers with text and never retries; the same one at each call."""
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self, **options: Any) -> redis.Redis:
        """Return another client; it is closed with the server."""
        options = {"decode_responses": True, "retry": Retry(NoBackoff(), 0), **options}
        options = {"password": self.password, **options}
        client = redis.Redis(HOST, self.port, **options)
        self._clients.append(client)
        return client

    def start(self, *, until_loaded: bool = True) -> None:
        """Start, also again, on the same port. Without `until_loaded` LOADING is an answer too."""
        first = self._process is None
        for _ in range(PORT_TRIES_MAX):
            self._spawn()
            if self._wait_ready(until_loaded=until_loaded):
                for client in self._clients:
                    client.connection_pool.disconnect()
                return
            if not first or "Address already in use" not in self._said():
                break
            self.port = free_port()  # another process was quicker
        raise RuntimeError(f"redis-server did not start: {self._said()}")

    def kill(self) -> None:
        """End it by SIGKILL: nothing is saved, no connection is closed in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """End it by SIGTERM, as an operator would."""
        if self._process is not None:
            end(self._process, seconds_max=STOP_SECONDS_MAX)

    def pause(self) -> None:
        """Stop its clock: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill it and close its clients; repeating is harmless."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._client = None
        self.kill()

    @property
    def _output(self) -> Path:
        return self.folder / "redis.log"

    def _said(self) -> str:
        return self._output.read_text(errors="replace")

    def _spawn(self) -> None:
        self._output.unlink(missing_ok=True)
        options = [
            *("--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", *self._options),
        ]
        self._process = spawn(self._binary, options, self._output)

    def _wait_ready(self, *, until_loaded: bool) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while self._process.poll() is None and time.monotonic() < deadline:
            said = answer((HOST, self.port))
            if said and not (until_loaded and said.startswith(b"-LOADING")):
                return True
            time.sleep(POLL_SECONDS)
        self.kill()
        return False

"""A Redis of our own: a child redis-server that ends with us, fakeredis where none can be had."""

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from bridge.log import get_logger

if TYPE_CHECKING:
    from fakeredis import TcpFakeServer

HOST = "127.0.0.1"
VERSION_MIN = (6, 2)
PORT_TRIES_MAX = 20
START_SECONDS_MAX = 5.0
FOLDER = "bridge-redis-"
STOP_SECONDS_MAX = 0.5  # there is nothing to save
POLL_SECONDS = 0.002
SOCKET_PATH_BYTES_MAX = 100  # the kernel takes 107; Redis cuts a longer path without a word
TOOLS = Path(__file__).resolve().parents[1] / ".tools" / "bin"

log = get_logger("nautilus_bridge.embedded_redis")

# Runs in the child, between fork and redis-server. A preexec_fn would do the same in the forked
# copy of a process that may have threads, which Python warns about and which can deadlock.
# The parent may be gone before prctl, and then no signal would ever come: hence getppid.
_TIE_TO_PARENT = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedisError(Exception):
    """The embedded Redis could not be started; the message says why."""


class PortTakenError(EmbeddedRedisError):
    """Another process listens on the port."""


def find_redis_server(search_path: str | None = None) -> Path | None:
    """Return the first redis-server >= 6.2: on PATH (or `search_path`), else in .tools/bin."""
    for folders in (search_path, str(TOOLS)):
        found = shutil.which("redis-server", path=folders)
        if found is not None and _runs(found):
            return Path(found).absolute()
    return None


def spawn(binary: Path, options: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a redis-server in its own session; the kernel kills it when this process ends.

    What it prints is appended to `output`. Linux ties the child to the *thread* that started it,
    so this must be called from the main thread; RuntimeError elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a redis-server must be started from the main thread")
    tie = [sys.executable, "-I", "-S", "-c", _TIE_TO_PARENT, str(os.getpid())]
    with output.open("ab") as stream:
        return subprocess.Popen(
            [*tie, str(binary), *options],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], *, seconds_max: float = STOP_SECONDS_MAX) -> None:
    """End and reap a child: SIGTERM, SIGKILL after `seconds_max`. Repeating is harmless."""
    process.terminate()
    try:
        process.wait(seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answer(address: str | tuple[str, int], *, timeout_seconds: float = 1.0) -> bytes:
    """Return the first bytes of the reply to PING at a unix socket path or (host, port).

    Empty when nothing answers. A server that loads or wants a password answers -LOADING, -NOAUTH.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_seconds)
        try:
            client.connect(address)
            client.sendall(b"*1\r\n$4\r\nPING\r\n")  # fakeredis knows no inline commands
            return client.recv(64)
        except OSError:
            return b""


class EmbeddedRedis:
    """An embedded Redis on a loopback port, and on a unix socket when it is a redis-server.

    `port` is the one wanted; when it is taken, one of the next 19 is used. Use as a context
    manager, or `start` and `stop` (both from the main thread). After `start`:

    - `kind`: "redis-server" or "fakeredis"
    - `port`, `tcp_url`: where redis-cli reaches it; fit for messages
    - `url`: the unix socket where there is one (faster), else the same as `tcp_url`
    - `pid`: the server's process id, None for fakeredis
    """

    def __init__(self, port: int = 6399) -> None:
        self.port = port
        self.kind: Literal["redis-server", "fakeredis"] = "redis-server"
        self._port_wanted = port
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._fake: TcpFakeServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def tcp_url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def url(self) -> str:
        return self.tcp_url if self._folder is None else f"unix://{self._folder}/redis.sock?db=0"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the server ended without being asked to."""
        return self._process is not None and self._process.poll() is not None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start and wait until PING is answered. Raises EmbeddedRedisError within 5 s a try."""
        if self._process is not None or self._fake is not None:
            return self
        binary = find_redis_server()
        for port in range(self._port_wanted, min(self._port_wanted + PORT_TRIES_MAX, 65_536)):
            try:
                if binary is None:
                    self._start_fake(port)
                else:
                    self._start_server(binary, port)
            except PortTakenError:
                continue
            log.info("redis.embedded_started", kind=self.kind, url=self.tcp_url, pid=self.pid)
            return self
        raise PortTakenError(
            f"embedded.port: {self._port_wanted} and the ports behind it are taken"
            f" ({PORT_TRIES_MAX} tried); choose another, or set redis.url to a Redis that runs"
        )

    def stop(self) -> None:
        """End the server (SIGKILL 0.5 s after SIGTERM), remove its folder; twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
            log.info("redis.embedded_stopped", url=self.tcp_url)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        fake, self._fake = self._fake, None
        if fake is not None:
            fake.shutdown()
            fake.server_close()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(STOP_SECONDS_MAX)

    def _start_server(self, binary: Path, port: int) -> None:
        _check_free(port)
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))  # mode 0700
        self._folder = folder
        try:
            if len(os.fsencode(folder / "redis.sock")) > SOCKET_PATH_BYTES_MAX:
                raise EmbeddedRedisError(
                    f"{folder} is too long for a unix socket; set TMPDIR to a shorter folder"
                )
            self._process = spawn(binary, _options(folder, port), folder / "redis.log")
            _wait_ready(self._process, folder)
        except BaseException:
            self.stop()
            raise
        self.port, self.kind = port, "redis-server"

    def _start_fake(self, port: int) -> None:
        _check_free(port)
        from fakeredis import TcpFakeServer  # only here: the fallback is slow to import

        self._fake = TcpFakeServer((HOST, port))
        self._fake.daemon_threads = True  # a client that hangs must not keep the process alive
        self._thread = threading.Thread(
            target=self._fake.serve_forever, args=(0.01,), name="fakeredis", daemon=True
        )
        self._thread.start()
        self.port, self.kind = port, "fakeredis"
        log.warning(
            "redis.embedded_fake",
            url=self.tcp_url,
            missing="pushed flag changes (CLIENT TRACKING), INFO and CONFIG, speed, persistence",
            remedy="run ops/find-redis, or install redis-server, and start again",
        )


def _sweep() -> None:
    """Remove the folders of owners that were killed and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        owner = folder.name.removeprefix(FOLDER).partition("-")[0]
        if owner.isdecimal():
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                continue  # alive, and somebody else's


def _runs(binary: str) -> bool:
    """Return True for a server that is new enough: what stands on PATH need not even run."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.search(rb" v=(\d+)\.(\d+)", done.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= VERSION_MIN


def _check_free(port: int) -> None:
    """Raise PortTakenError when something listens there: cheaper than a server that fails."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            kind = PortTakenError if error.errno == errno.EADDRINUSE else EmbeddedRedisError
            raise kind(f"embedded.port: {port}: {error.strerror}") from error


def _options(folder: Path, port: int) -> list[str]:
    return [
        *("--port", str(port), "--bind", HOST, "--dir", str(folder), "--daemonize", "no"),
        *("--unixsocket", str(folder / "redis.sock"), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
    ]


def _wait_ready(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while answer(str(folder / "redis.sock")) != b"+PONG\r\n":
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = (folder / "redis.log").read_text(errors="replace")
            if "Address already in use" in said:
                raise PortTakenError(said)
            state = f"ended with {process.returncode}" if ended else "does not answer"
            raise EmbeddedRedisError(
                f"the embedded redis-server {state} (waited {START_SECONDS_MAX} s at most);"
                f" its last words: {' / '.join(said.splitlines()[-3:]) or 'none'}"
            )
        time.sleep(POLL_SECONDS)

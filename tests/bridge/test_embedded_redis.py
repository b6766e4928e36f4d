"""The embedded Redis, and the servers that the other tests stand on."""

import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import structlog

from bridge import embedded_redis
from bridge.embedded_redis import (
    HOST,
    EmbeddedRedis,
    EmbeddedRedisError,
    PortTakenError,
    answer,
    find_redis_server,
)
from tests.bridge.processes import loading
from tests.servers import RedisServer, free_port, server_or_exit

ROOT = Path(__file__).parents[2]
MakeRedis = Callable[..., RedisServer]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, with a path short enough for a socket."""
    path = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "find_redis_server", lambda: None)


@pytest.fixture
def fake_binary(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Return `make(script)`: a shell script that says it is redis-server 7.0, in a PATH folder."""

    def make(script: str) -> Path:
        path = tmp_path / "redis-server"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.0.15" && exit\n{script}\n'
        )
        path.chmod(0o755)
        monkeypatch.setattr(embedded_redis, "find_redis_server", lambda: path)
        return path

    return make


def wait_gone(pid: int, *, seconds_max: float = 5) -> bool:
    """Return True when the process has ended, reaped or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds_max)[0])
    finally:
        os.close(handle)


def ping(url: str) -> object:
    with redis.Redis.from_url(url) as client:
        return client.ping()


def test_it_answers_on_its_socket_and_on_its_port(folder: Path) -> None:
    """One server is reached by both URLs."""
    with EmbeddedRedis(free_port()) as server:
        with redis.Redis.from_url(server.url) as by_socket:
            by_socket.set("key", "value")
        with redis.Redis.from_url(server.tcp_url) as by_port:
            found = by_port.get("key")

    assert (server.kind, found) == ("redis-server", b"value")


def test_its_pid_is_the_servers_own(folder: Path) -> None:
    """No shell or Python stands between us and the server: a signal to `pid` reaches it."""
    with EmbeddedRedis(free_port()) as server, redis.Redis.from_url(server.url) as client:
        assert client.info("server")["process_id"] == server.pid


def test_it_neither_saves_nor_evicts(folder: Path) -> None:
    """The options of an embedded server are in force."""
    names = ("save", "appendonly", "maxmemory-policy", "bind")
    with (
        EmbeddedRedis(free_port()) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        found = [client.config_get(name)[name] for name in names]

    assert found == ["", "no", "noeviction", HOST]


def test_only_its_user_reaches_the_socket(folder: Path) -> None:
    """The folder of the socket is closed to others, and so is the socket."""
    with EmbeddedRedis(free_port()):
        (inside,) = folder.iterdir()
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (inside, inside / "redis.sock")]

    assert modes == [0o700, 0o700]


def test_ctrl_c_does_not_reach_it(folder: Path) -> None:
    """It leads a session of its own, apart from the terminal's group."""
    with EmbeddedRedis(free_port()) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid


def test_it_ends_when_its_parent_is_killed(folder: Path) -> None:
    """A daemon that dies by SIGKILL leaves no server behind."""
    script = (
        "import sys, bridge.embedded_redis as e\n"
        f"r = e.EmbeddedRedis({free_port()}).start()\n"
        "print('pid', r.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = next(int(line.split()[1]) for line in parent.stdout if line.startswith("pid "))
        parent.kill()

    assert wait_gone(pid)


def test_a_taken_port_makes_it_use_a_later_one(folder: Path, taken_port: int) -> None:
    """What is taken is left alone, and `port` says where the server is."""
    with EmbeddedRedis(taken_port) as server:
        assert taken_port < server.port < taken_port + 20
        assert answer((HOST, server.port)) == b"+PONG\r\n"


def test_a_port_lost_at_the_last_moment_makes_it_use_a_later_one(
    folder: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own word that the port is in use counts, not only our look before."""
    monkeypatch.setattr(embedded_redis, "_check_free", lambda port: None)

    with EmbeddedRedis(taken_port) as server:
        assert taken_port < server.port < taken_port + 20


def test_no_free_port_is_an_error_that_says_what_to_do(
    folder: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all tries fail, the message names the setting and the way out."""
    monkeypatch.setattr(embedded_redis, "PORT_TRIES_MAX", 1)

    with pytest.raises(PortTakenError, match=rf"embedded.port: {taken_port} .*redis.url"):
        EmbeddedRedis(taken_port).start()


def test_stop_removes_its_folder_and_may_be_repeated(folder: Path) -> None:
    """Nothing is left behind, and the second stop does nothing."""
    server = EmbeddedRedis(free_port()).start()
    pid = server.pid

    server.stop()
    server.stop()

    assert list(folder.iterdir()) == []
    assert pid is not None
    assert wait_gone(pid)


def test_stop_after_it_was_killed_is_harmless(folder: Path) -> None:
    """A server that died on its own does not make the stop fail."""
    server = EmbeddedRedis(free_port()).start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert wait_gone(server.pid)

    server.stop()

    assert list(folder.iterdir()) == []


def test_a_server_that_ignores_sigterm_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop is bounded, also when the server is frozen."""
    monkeypatch.setattr(embedded_redis.end, "__kwdefaults__", {"seconds_max": 0.05})
    server = EmbeddedRedis(free_port()).start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)

    server.stop()

    assert wait_gone(pid)


def test_it_can_be_started_again(folder: Path) -> None:
    """After a stop the same object starts a new server, on the same port when that is free."""
    server = EmbeddedRedis(free_port())
    with server:
        before = server.port
    with server:
        assert (ping(server.url), server.port) == (True, before)


def test_another_thread_may_not_start_it(folder: Path) -> None:
    """The kernel would end the server with that thread, so it is refused, and nothing is left."""
    errors: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedRedis(free_port()).start()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert "main thread" in str(errors)
    assert list(folder.iterdir()) == []


def test_a_server_that_fails_is_an_error_with_its_last_words(
    folder: Path, fake_binary: Callable[[str], Path]
) -> None:
    """What the server said before it ended is in the message; no folder is left."""
    fake_binary("echo 'out of luck'; exit 3")

    with pytest.raises(EmbeddedRedisError, match=r"ended with 3 .*out of luck"):
        EmbeddedRedis(free_port()).start()

    assert list(folder.iterdir()) == []


def test_a_server_that_never_answers_is_an_error(
    folder: Path, fake_binary: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for PONG ends at the deadline."""
    fake_binary("exec cat /dev/zero >/dev/null")
    monkeypatch.setattr(embedded_redis, "START_SECONDS_MAX", 0.05)

    with pytest.raises(EmbeddedRedisError, match="does not answer"):
        EmbeddedRedis(free_port()).start()


def test_a_folder_too_deep_for_a_socket_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis would cut the path in silence, so the message names TMPDIR instead."""
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    with pytest.raises(EmbeddedRedisError, match="TMPDIR"):
        EmbeddedRedis(free_port()).start()

    assert list(deep.iterdir()) == []


def test_a_binary_that_does_not_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken or old redis-server on the path does not hide the one in .tools/bin."""
    for name, says in (("path", "v=6.0.16"), ("tools", "v=7.0.15")):
        binary = tmp_path / name / "redis-server"
        binary.parent.mkdir()
        binary.write_text(f"#!/bin/sh\necho Redis server {says} sha=0\n")
        binary.chmod(0o755)
    monkeypatch.setattr(embedded_redis, "TOOLS", tmp_path / "tools")

    assert find_redis_server(str(tmp_path / "path")) == tmp_path / "tools" / "redis-server"


def test_no_binary_anywhere_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty path and no .tools/bin yield nothing."""
    monkeypatch.setattr(embedded_redis, "TOOLS", tmp_path)

    assert find_redis_server(str(tmp_path)) is None


@pytest.mark.usefixtures("no_server")
def test_without_a_binary_fakeredis_stands_in() -> None:
    """The fallback takes and gives back stream entries, and has no process."""
    with EmbeddedRedis(free_port()) as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            client.xadd("stream", {"field": "value"})
            entries = client.xrange("stream")

        assert [fields for _, fields in entries] == [{"field": "value"}]
        assert (server.kind, server.pid, server.url) == ("fakeredis", None, server.tcp_url)


@pytest.mark.usefixtures("no_server")
def test_the_fallback_warns_what_does_not_work() -> None:
    """One warning names what is missing and how to get the real thing."""
    with structlog.testing.capture_logs() as logs, EmbeddedRedis(free_port()):
        pass

    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["event"] == "redis.embedded_fake"
    assert "CLIENT TRACKING" in warning["missing"]
    assert "ops/find-redis" in warning["remedy"]


@pytest.mark.usefixtures("no_server")
def test_the_fallback_takes_a_later_port_and_gives_it_back(taken_port: int) -> None:
    """It looks for a port as the real server does, and frees it on stop."""
    with EmbeddedRedis(taken_port) as server:
        assert answer((HOST, server.port)) == b"+PONG\r\n"

    assert server.port > taken_port
    assert answer((HOST, server.port)) == b""


def test_start_and_stop_are_logged(folder: Path) -> None:
    """Changes of state and nothing else: the whole list of events."""
    with structlog.testing.capture_logs() as logs, EmbeddedRedis(free_port()) as server:
        pid = server.pid

    url = server.tcp_url
    assert logs == [
        {
            "event": "redis.embedded_started",
            "log_level": "info",
            "kind": "redis-server",
            "url": url,
            "pid": pid,
        },
        {"event": "redis.embedded_stopped", "log_level": "info", "url": url},
    ]


def test_the_suite_does_not_run_without_a_server() -> None:
    """Where no redis-server is found the run ends at once and names the remedy."""
    with pytest.raises(pytest.exit.Exception, match=r"make test.*ops/find-redis") as caught:
        server_or_exit(None)

    assert caught.value.returncode == 2


def test_a_shared_server_is_empty_for_each_test(redis_server: RedisServer) -> None:
    """Nothing of another test is seen (this one leaves a key for its twin)."""
    assert redis_server.client.dbsize() == 0
    redis_server.client.set("left", "behind")


test_a_shared_server_is_empty_for_the_next_test = test_a_shared_server_is_empty_for_each_test


def test_a_killed_server_starts_again_with_its_data(make_redis: MakeRedis) -> None:
    """SIGKILL and a start on the same port keep what the append-only file holds."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    server.client.set("key", "value")
    url = server.url

    server.kill()
    assert answer((HOST, server.port)) == b""
    server.start()

    assert (server.client.get("key"), server.url) == ("value", url)


def test_a_terminated_server_starts_again(make_redis: MakeRedis) -> None:
    """SIGTERM ends it in order, and start brings it back, empty without persistence."""
    server = make_redis()
    server.client.set("key", "value")

    server.terminate()
    server.start()

    assert server.client.get("key") is None


def test_a_paused_server_does_not_answer_until_resumed(make_redis: MakeRedis) -> None:
    """A frozen server accepts and stays silent; resumed it goes on."""
    server = make_redis()

    server.pause()
    assert answer((HOST, server.port), timeout_seconds=0.05) == b""
    server.resume()

    assert server.client.ping() is True


def test_a_server_with_a_password_wants_it(make_redis: MakeRedis) -> None:
    """The URL carries the password, and nobody gets in without it."""
    server = make_redis("--requirepass", "sesame")

    assert server.client.ping() is True
    with pytest.raises(redis.AuthenticationError):
        server.new_client(password="wrong").ping()


def test_a_server_can_be_met_while_it_loads(make_redis: MakeRedis) -> None:
    """`until_loaded=False` returns while the server still answers LOADING."""
    server = loading(make_redis, seconds=60)

    assert answer((HOST, server.port)).startswith(b"-LOADING")


def test_a_killed_owners_folder_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a SIGKILLed process left behind goes with the next start; the living keep theirs."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with tempfile.TemporaryDirectory() as short:  # pytest's own is too long for a unix socket
        monkeypatch.setattr(tempfile, "tempdir", short)
        left = Path(short, f"bridge-redis-{ended.pid}-x")
        kept = Path(short, f"bridge-redis-{os.getpid()}-x")
        left.mkdir()
        kept.mkdir()

        with EmbeddedRedis(free_port()):
            assert kept.exists()
            assert not left.exists()

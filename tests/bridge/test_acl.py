"""The daemon and the commands as the users of ops/redis/bridge.acl: all they do is allowed."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.__main__ import main
from bridge.doctor import Level
from tests.bridge.doctors import as_user, seen
from tests.bridge.processes import Daemon, Ended, environment
from tests.topologies.acl import FILE, WithUsers, started

type Capture = pytest.CaptureFixture[str]

# What doctor cannot tell because the file leaves CONFIG GET out.
WITHOUT_CONFIG = {"persistence": "unknown"}


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUsers]:
    with started(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def server(_server: WithUsers) -> WithUsers:
    """A server with the users that has denied nothing yet; the tests of this file share it."""
    _server.forget_denials()
    return _server


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def daemon(
    _server: WithUsers, state: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A demo that runs as the user bridge. Redis denies it nothing, at its start and end neither.

    The tests of this file share it.
    """
    _server.forget_denials()
    folder, settings = tmp_path_factory.mktemp("daemon"), {"state__directory": str(state)}
    settings |= {"replay__dataset": str(dataset), "redis__url": _server.url}
    with Daemon(folder, **settings) as made:
        made.until_running()
        made.until(lambda: _server.client.xlen("demo:exec:fills"), "a fill")
        assert _server.denials() == []
        yield made
        _server.forget_denials()
        assert made.stop().code == exits.DONE
        assert "no permissions" not in made.err
        assert _server.denials() == []


@pytest.mark.parametrize(
    "line",
    [
        *("status", "flags", "flags shadow_exec=1", "halt --reason test", "resume", "audit"),
        *("trim --older-than 0s --dry-run", "trim --older-than 0s", "ledger", "archive verify"),
    ],
)
def test_a_command(
    server: WithUsers,
    daemon: Daemon,
    state: Path,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Every command works with the daemon's own settings, and Redis has denied nothing."""
    settings = {"redis__url": server.url, "state__directory": str(state)}
    monkeypatch.setattr("os.environ", environment(settings))

    code = main(line.split())

    assert code == exits.DONE, capsys.readouterr()
    assert server.denials() == []


def test_doctor(
    server: WithUsers, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Doctor finds nothing wrong with the user; it goes without CONFIG GET, and nothing else."""
    monkeypatch.setattr("os.environ", environment({"redis__url": server.url}))

    found = seen(capsys.readouterr)

    assert (found.code, found.worst) == (exits.DONE, WITHOUT_CONFIG)
    assert {each["object"] for each in server.denials()} == {"config|get"}


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("~bridge:lease:* +eval", "touch bridge:lease:role:demo"),
        ("~demo:exec:* ~shadow:exec:* +type", "touch demo:exec:orders"),
    ],
)
def test_a_right_that_the_file_lacks(
    server: WithUsers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    lacks: str,
    said: str,
) -> None:
    """Doctor names it, and what it advises gives the right together with the key: it helps."""
    [line] = [line for line in FILE.read_text().splitlines() if line.startswith("user bridge ")]
    assert lacks in line
    url = as_user(server, "poorer", "reset", *line.replace(lacks, lacks.split()[-1]).split()[2:])
    server.client.execute_command("ACL", "SETUSER", "poorer", ">secret")
    monkeypatch.setattr("os.environ", environment({"redis__url": url}))

    found = seen(capsys.readouterr).of("permissions")
    assert found.level is Level.LOSE
    assert said in found.what

    server.client.execute_command(*shlex.split(found.remedy))
    assert seen(capsys.readouterr).worst == WITHOUT_CONFIG


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("bridge-reader", "status"),
        ("bridge-reader", "flags"),
        ("bridge-reader", "audit"),
        ("bridge-operator", "status"),
        ("bridge-operator", "flags mode=normal"),
        ("bridge-operator", "halt --reason test"),
        ("bridge-operator", "resume"),
    ],
)
def test_a_command_of_the_others(
    server: WithUsers,
    daemon: Daemon,
    state: Path,
    user: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """What the file says that a user is for works, and Redis has denied nothing."""
    settings = {"redis__url": server.url_of(user), "state__directory": str(state)}
    monkeypatch.setattr("os.environ", environment(settings))

    code = main(line.split())

    assert code == exits.DONE, capsys.readouterr()
    assert server.denials() == []


def test_a_reader_cannot_halt(
    server: WithUsers, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The reader's halt is refused, in Redis's own words."""
    monkeypatch.setattr("os.environ", environment({}))

    code = main(["halt", "--reason", "x", "--url", server.url_of("bridge-reader")])

    assert code == exits.UNAVAILABLE
    assert "no permissions to run the 'set' command" in capsys.readouterr().err


def test_a_right_that_a_script_lacks(server: WithUsers, run: Callable[..., Ended]) -> None:
    """What the scripts do is refused in other words: that, too, is exit 77."""
    url = as_user(server, "half", "~*", "&*", "+@all", "-get")

    ended = run(redis__url=url, status__port="0")

    assert ended.code == exits.REFUSED
    assert "executing the script" in ended.err
    assert "ops/redis/bridge.acl" in ended.err


def test_a_restart_of_redis(server: WithUsers, daemon: Daemon) -> None:
    """A rewrite of the append-only file behind a restart is allowed, and to rebuild a mark."""
    server.kill()
    server.start()
    daemon.until_logged("redis.rewritten")
    server.client.delete("bridge:mark:{demo:exec:account}")
    daemon.until_logged("exec.mark_rebuilt")

    assert server.denials() == []

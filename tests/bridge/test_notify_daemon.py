"""The daemon below a receiver in systemd's place: start, watchdog, hang, reload, stop, no start."""

import contextlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from bridge import exits
from bridge.__main__ import main
from tests.bridge.notified import Receiver
from tests.bridge.processes import Daemon, Ended, eventually
from tests.servers import RedisServer

WATCHDOG_USEC = "400000"
BEATS_SECONDS = 5 * 0.1
BUSY = ("--strategy", "tests.bridge.strategies:Busy")
LIMIT = "[limits]\nmax_order_notional = {}\n"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Told(Daemon):
    """A daemon below a service manager, with settings in a file."""

    def __init__(self, receiver: Receiver, folder: Path, dataset: Path, **settings: str) -> None:
        self.receiver = receiver
        self.config = folder / "bridge.toml"
        self.config.write_text(LIMIT.format(100_000))
        given = {"NOTIFY_SOCKET": receiver.name, "WATCHDOG_USEC": WATCHDOG_USEC}
        given |= {"replay__dataset": str(dataset)} | settings
        super().__init__(folder, *BUSY, "--config", str(self.config), **given)

    def until_told(self, name: str, since: int = 0) -> None:
        """Wait until something is said under this name."""
        self.until(lambda: self.receiver.values(name, since), name)


@pytest.fixture(scope="module")
def running(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with Receiver() as receiver, Told(receiver, tmp_path_factory.mktemp("told"), dataset) as told:
        told.until_told("READY")
        yield told


@pytest.fixture
def tell(dataset: Path, tmp_path: Path, receiver: Receiver) -> Iterator[Callable[..., Told]]:
    """Return `tell(**settings)`: a daemon of the test's own."""
    with contextlib.ExitStack() as daemons:

        def make(**settings: str) -> Told:
            return daemons.enter_context(Told(receiver, tmp_path, dataset, **settings))

        yield make


def test_it_starts(running: Told) -> None:
    """The phases of the start, each with more time; then READY, once; then how it goes."""
    running.until(lambda: "ok; orders" in running.receiver.heard[-1].get("STATUS", ""), "ok")
    heard = running.receiver.heard
    [ready] = [number for number, each in enumerate(heard) if "READY" in each]

    phases = ["opening the journal", "waiting for Redis", "starting the node"]
    assert [each["STATUS"] for each in heard[:ready]] == phases
    assert all(int(each["EXTEND_TIMEOUT_USEC"]) > 0 for each in heard[:ready])
    running.until(lambda: running.times_logged("node.running") == 1, "the node in the log")
    assert running.statuses == []  # the journal of the machine does not keep each second


def test_nobody_is_told_what_to_type(running: Told) -> None:
    """Its log says where everything is; the lines to try are for a terminal."""
    assert "\nstreams  " in running.out
    assert running.examples == []
    assert "Ctrl-C" not in running.out


def test_it_feeds_the_watchdog(running: Told) -> None:
    """Beat by beat, while the node moves."""
    running.until(lambda: len(running.receiver.values("WATCHDOG")) > 5, "the watchdog's food")


def test_a_process_that_hangs_feeds_nothing(running: Told) -> None:
    """Stopped it is silent; going on it feeds again."""
    running.send(signal.SIGSTOP)
    eventually(lambda: not running.receiver.heard or not running.receiver.hears(0.05), "silence")
    assert not running.receiver.hears(BEATS_SECONDS)
    since = len(running.receiver.heard)
    running.send(signal.SIGCONT)
    running.until_told("WATCHDOG", since)


def test_it_reloads(running: Told) -> None:
    """SIGHUP: RELOADING with its time, then READY; the log says what has changed, and it holds."""
    since = len(running.receiver.heard)
    running.config.write_text(LIMIT.format(1) + '[status]\nport = 1\n[log]\nlevel = "debug"\n')
    running.send(signal.SIGHUP)
    running.until_told("READY", since)

    [told] = [each for each in running.receiver.heard[since:] if "RELOADING" in each]
    assert told["RELOADING"] == "1"
    assert int(told["MONOTONIC_USEC"]) > 0
    running.until_logged("reload.done", changed=["limits.max_order_notional", "log.level"])
    # The environment wins over the file: status.port has not changed.
    assert not running.times_logged("reload.needs_restart")
    with redis.Redis(port=running.port, decode_responses=True) as client:

        def latest() -> list[str]:
            return [row["status"] for _, row in client.xrevrange("exec:orders", count=1)]

        running.until(lambda: latest() == ["denied"], "an order above the new limit")


def test_bad_settings_change_nothing(running: Told) -> None:
    """A file with an error in it: the log says where, all stays, and it is READY again."""
    since = len(running.receiver.heard)
    running.config.write_text("[limits]\nmax_order_notionl = 1\nmax_position = 1\n")
    running.send(signal.SIGHUP)
    running.until_told("READY", since)

    running.until_logged("reload.refused")
    [said] = [each for each in running.logged if each["event"] == "reload.refused"]
    assert "limits.max_order_notionl" in str(said["problems"])
    running.until(lambda: running.health()[0] == 200, "health")


def test_it_stops(running: Told) -> None:
    """SIGTERM: STOPPING, more time for it, 0. The last test: the daemon is gone behind it."""
    ended = running.stop(signal.SIGTERM)

    assert (ended.code, ended.complaint) == (exits.DONE, "")
    heard = running.receiver.heard
    begins = heard.index({"STOPPING": "1"})
    assert heard[begins + 1]["STATUS"] == "stopping"
    assert int(heard[begins + 1]["EXTEND_TIMEOUT_USEC"]) > 0
    assert "READY" not in {name for each in heard[begins:] for name in each}


def test_a_pump_that_hangs_lets_the_watchdog_go_hungry(tell: Callable[..., Told]) -> None:
    """Nobody serves the queue of data: STATUS goes on, WATCHDOG does not. The signal that comes of
    it ends the process, and has it say where every thread is."""
    told = tell(source__factory="tests.bridge.stuck:stuck")
    told.until_told("WATCHDOG")
    told.until_logged("source.stuck")

    def is_hungry() -> bool:
        last = told.receiver.heard[-5:]
        return all("STATUS" in each and "WATCHDOG" not in each for each in last)

    told.until(is_hungry, "five beats without food")
    # What systemd does then.
    told.send(signal.SIGABRT)
    ended = told.ended()
    assert ended.code == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in ended.err
    assert re.search(r'^Current thread .*\n  File "', ended.err, re.MULTILINE)


def test_hung_up_then_killed(
    tell: Callable[..., Told], redis_server: RedisServer, tmp_path: Path
) -> None:
    """SIGHUP while it starts is no end, and reloads nothing. Behind a SIGKILL nothing is said; the
    next one is READY without waiting for the lease."""
    given = {"redis__url": redis_server.url, "state__directory": str(tmp_path / "state")}
    given |= {"producer__lease_seconds": "3600"}
    first = tell(source__factory="tests.bridge.sources:announced", **given)
    first.until_logged("source.building")
    first.send(signal.SIGHUP)
    first.until_told("READY")
    assert not first.times_logged("reload.done")
    first.send(signal.SIGKILL)
    assert first.ended().code == -signal.SIGKILL
    since = len(first.receiver.heard)
    assert not first.receiver.hears(BEATS_SECONDS)

    tell(**given).until_told("READY", since)


def test_a_wrong_password(
    run: Callable[..., Ended],
    make_redis: Callable[..., RedisServer],
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """The credential is refused: 77, the reason is the last STATUS, no READY, no secret."""
    server = make_redis("--requirepass", "sesame")
    (tmp_path / "redis-password").write_text("wr0ng\n")
    url = f"redis://127.0.0.1:{server.port}/0"

    ended = run(redis__url=url, CREDENTIALS_DIRECTORY=str(tmp_path), NOTIFY_SOCKET=receiver.name)

    assert ended.code == exits.REFUSED
    last = receiver.heard[-1]["STATUS"]
    assert last == ended.complaint
    assert "correct user and password" in last
    assert receiver.values("READY") == []
    assert "wr0ng" not in ended.err + ended.out + str(receiver.heard)


def test_no_settings(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """An absent file: 78, it is named, and READY is not said."""
    monkeypatch.setenv("NOTIFY_SOCKET", receiver.name)

    code = main(["run", "--config", str(tmp_path / "absent.toml")])

    assert code == exits.CONFIGURATION
    assert capsys.readouterr().err.startswith(f"file {tmp_path}/absent.toml: cannot be read: ")
    assert receiver.heard == []

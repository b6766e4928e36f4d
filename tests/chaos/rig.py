"""What a fault strikes: a redis-server, a daemon that trades, and the record of what it emitted."""

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import redis

from bridge.core.contract import EXEC_KINDS, Names, default_names
from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import ROOT, Daemon, Ended, environment, eventually
from tests.chaos import checker, record
from tests.chaos.checker import Verdict
from tests.chaos.child import Child
from tests.chaos.record import Found
from tests.chaos.servers import ChaosServer
from tests.servers import server_or_exit

PREFIX: Final = "chaos:"
PRODUCER: Final = "CHAOS-001"
NAMES: Final[Names] = default_names(PREFIX)
KEYS: Final = {kind: NAMES.key(kind) for kind in EXEC_KINDS}
RATE: Final = 500  # execution events a second
# Each daemon has one of these: full every quarter of a second, every second, or as shipped.
SEGMENT_BYTES: Final = (1 << 16, 1 << 18, 1 << 24)
PAGE_ENTRIES: Final = 2_000
RECOVER_SECONDS_MAX: Final = 60.0
COMMAND_SECONDS_MAX: Final = 300.0
# Between two strikes the record must have grown: about twenty events.
GROWTH_BYTES: Final = 8_000


class TradingDaemon(Daemon):
    """The daemon with the generator as its source."""

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def until(self, probe: Callable[[], object], what: str) -> None:
        """As of the daemon, for longer: the machine may be busy with other rows."""

        def alive_or_true() -> bool:
            was_alive = self.is_alive  # first: its last words may be the answer
            met = bool(probe())
            assert met or was_alive, f"{what}: it ended: {self.out[-2000:]}{self.err[-4000:]}"
            return met

        eventually(alive_or_true, what, seconds_max=RECOVER_SECONDS_MAX)

    def ended(self, seconds_max: float = RECOVER_SECONDS_MAX) -> Ended:
        """As of the daemon, for longer."""
        return super().ended(seconds_max)

    def health(self) -> tuple[int, str]:
        """As of the daemon; 0 when nobody answers: then its own words tell more than that."""
        try:
            return super().health()
        except OSError as error:
            return 0, str(error)


class Pace(NamedTuple):
    """How long a run is: `strikes` of each fault; `seconds` is what a long one of them lasts."""

    strikes: int
    seconds: float


class Rig:
    """One run of a row. Use as a context manager: what it has started ends with it."""

    def __init__(
        self, name: str, folder: Path, *, seed: int, pace: Pace, options: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.folder = folder
        self.pace = pace
        self.chance = random.Random(f"{seed} {name}")
        self.strikes = self.kills = 0
        self.stack = contextlib.ExitStack()
        redis_folder = folder / "redis"
        redis_folder.mkdir()
        binary = server_or_exit(find_redis_server())
        self.server = ChaosServer(binary, redis_folder, *options)
        self.url = ""
        self._numbers = itertools.count()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self.stack.callback(self.server.close)
        self.server.start()
        self.url = self.server.url
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    # Daemons.

    def start(self, *words: str, state: str = "state", **settings: str) -> TradingDaemon:
        """Start a daemon that trades; its journal is in the folder `state`, its record beside it.

        `words` follow `python -m bridge run`.
        """
        given = self._settings(state) | {
            "source__factory": "tests.chaos.source:factory",
            "exec__batch_entries_max": "16",
            "journal__segment_bytes": str(self.chance.choice(SEGMENT_BYTES)),
            "redis__reconnect_seconds_max": "0.05",
            "CHAOS_RECORD": str(self.record(state)),
            "CHAOS_RATE": str(RATE),
            "CHAOS_SEED": str(self.chance.random()),
        }
        return self.stack.enter_context(
            TradingDaemon(self.new_folder(), *words, **(given | settings))
        )

    def follow(self, name: str, **settings: str) -> Child:
        """Start a reader alone: `python -m bridge NAME --follow`."""
        given = self._settings() | settings
        child = Child("bridge", self.new_folder(), name, "--follow", **given)
        return self.stack.enter_context(child)

    def command(self, *words: str, **settings: str) -> str:
        """Run `python -m bridge WORDS` to its end; return what it printed.

        AssertionError unless it ends well.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            cwd=ROOT,
            env=environment(self._settings() | settings),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == 0, f"{words}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def new_folder(self) -> Path:
        """Return a folder for what a process says."""
        folder = self.folder / f"process-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def record(self, state: str = "state") -> Path:
        """Return the record of the daemons of a state folder."""
        return self.folder / f"{state}.record"

    def kill(self, daemon: TradingDaemon) -> None:
        """SIGKILL a daemon. AssertionError when it had ended by itself."""
        daemon.send(signal.SIGKILL)
        ended = daemon.ended()
        assert ended.code == -signal.SIGKILL, _said(ended)
        self.kills += 1

    def finish(self, daemon: TradingDaemon) -> None:
        """Wait until all that was emitted is confirmed; end the daemon as an operator would."""
        self.until_flowing(daemon)
        daemon.until(lambda: daemon.health()[0] == 200, "health at the end")
        daemon.send(signal.SIGTERM)
        ended = daemon.ended()
        assert ended.code == 0, _said(ended)
        assert "everything is published" in ended.out, _said(ended)

    # Strikes.

    def striking(self, *faults: str) -> Iterator[str]:
        """Yield each of the faults as often as this run wants, in any order, at random moments."""
        schedule = [*faults] * self.pace.strikes
        self.chance.shuffle(schedule)
        for number, fault in enumerate(schedule, start=1):
            self.wait()
            yield fault
            self.strikes += 1
            seconds = time.monotonic() - self._began
            line = (
                f"{self.name:<18} strike {number:>3} of {len(schedule)} {seconds:6.1f} s  {fault}"
            )
            print(line, flush=True)

    def wait(self, seconds_min: float = 0.05, seconds_max: float = 0.5) -> None:
        """Let a random time pass."""
        time.sleep(self.chance.uniform(seconds_min, seconds_max))

    @contextlib.contextmanager
    def perhaps_stalled(self) -> Iterator[None]:
        """Run the body with a Redis that answers, or with one that owes what piles up."""
        stalls = self.chance.random() < 0.5
        if stalls:
            self.server.pause()
        try:
            if stalls:
                self.wait(0.02, 0.3)
            yield
        finally:
            if stalls:
                self.server.resume()

    def until(
        self, probe: Callable[[], object], what: str, daemon: TradingDaemon | None = None
    ) -> None:
        """Wait until `probe` is true; where a daemon is given, only while it lives."""
        if daemon is not None:
            daemon.until(probe, what)
        else:
            eventually(probe, what, seconds_max=RECOVER_SECONDS_MAX)

    def until_moving(self, daemon: TradingDaemon | Child, state: str = "state") -> None:
        """Wait until the engine has emitted some events more."""
        path = self.record(state)
        before = _size(path)
        daemon.until(lambda: _size(path) > before + GROWTH_BYTES, "more events")

    def until_flowing(self, daemon: TradingDaemon) -> None:
        """Wait until Redis has taken what is emitted from now on: all from before is there, too."""
        since_ns = time.time_ns()

        def flows() -> bool:
            with contextlib.suppress(redis.exceptions.RedisError):
                last = self.server.client.xrevrange(KEYS["orders"], count=1)
                return bool(last) and int(last[0][1].get("ts_ns", 0)) > since_ns
            return False

        daemon.until(flows, "entries of new events")

    # The end.

    def streams(self, producer: str = PRODUCER) -> dict[str, list[Found]]:
        """Return what the exec streams hold of a producer, by kind; empty: of who has no name."""
        return {
            kind: list(record.found(kind, self._entries(key, producer)))
            for kind, key in KEYS.items()
        }

    def verdict(self, *states: str, producer: str = PRODUCER, **how: Any) -> Verdict:
        """Compare the records of these state folders with the streams."""
        streams = self.streams(producer)
        named = checker.holes(streams["control"], {key: kind for kind, key in KEYS.items()})
        records = [record.read(self.record(state)) for state in states or ("state",)]
        return checker.check(records, streams, holes=named, in_hand_max=self.kills, **how)

    def _settings(self, state: str = "state") -> dict[str, str]:
        """Return what all processes of a state folder are told."""
        return {
            "redis__url": self.url,
            "streams__prefix": PREFIX,
            "producer__id": PRODUCER,
            "state__directory": str(self.folder / state),
        }

    def _entries(self, key: str, producer: str) -> Iterator[dict[str, str]]:
        start = "-"
        while page := self.server.client.xrange(key, min=start, count=PAGE_ENTRIES):
            for _, fields in page:
                if fields.get("producer", "").partition(".")[0] == producer:
                    yield fields
            start = f"({page[-1][0]}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _said(ended: Ended) -> str:
    return f"exit code {ended.code}: {ended.out[-2000:]}{ended.err[-4000:]}"


def refused_with(ended: Ended, code: int, words: str) -> None:
    """AssertionError unless a daemon ended with that code, and said why in these words."""
    assert ended.code == code, _said(ended)
    assert words in ended.complaint, _said(ended)

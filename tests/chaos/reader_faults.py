"""Rows of the table whose fault strikes ledger and archive, or what they read from."""

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Final

import redis

from bridge import exits, journal_directory
from bridge.segments import MARK, Segment
from tests.chaos import books, stories
from tests.chaos.checker import Verdict
from tests.chaos.child import Child
from tests.chaos.redis_faults import STALL_SECONDS_MAX, foreign_writer
from tests.chaos.rig import KEYS, Rig, TradingDaemon

BOTH: Final = ("ledger", "archive")
ALONE: Final = {"ledger__reader": "alone", "archive__reader": "alone"}
# They look for entries nearly all the time, take few at once, and fill segments soon.
HASTY: Final = {"readers__linger_seconds": "0.01", "archive__head_records": "50"}
ARCHIVE_BYTES: Final = 1 << 18
# What a file may grow to where its disk is to be full: each of theirs gets larger.
FILE_BYTES: Final = 1 << 16
START_SECONDS: Final = 1.5
# The journal keeps nothing for its own sake: only what a reader has not taken.
FORGETFUL: Final = {"journal__retain": "0", "journal__segment_bytes": str(1 << 16)}
AHEAD_MS: Final = 5_000


class Followers:
    """Readers alone in processes of their own, by name."""

    def __init__(self, rig: Rig, *names: str, **settings: str) -> None:
        self._rig = rig
        self._settings = HASTY | settings | {"archive__segment_bytes": str(ARCHIVE_BYTES)}
        self.running: dict[str, Child] = {}
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        self.running[name] = self._rig.follow(name, **self._settings)

    def kill(self, name: str) -> None:
        """SIGKILL, often with much to do; restart, often killed again before it is up."""
        rig, reader = self._rig, self.running[name]
        if rig.chance.random() < 0.5:
            os.kill(reader.pid, signal.SIGSTOP)
            rig.wait(0.05, 0.3)
            os.kill(reader.pid, signal.SIGCONT)
            rig.wait(0, 0.05)
        reader.kill()
        self.start(name)
        while rig.chance.random() < 0.3:
            rig.wait(0, START_SECONDS)
            self.running[name].kill()
            self.start(name)

    def starve(self, name: str) -> None:
        """Let its disk be full: it ends, and says so; it goes on where there is room again."""
        reader = self.running[name]
        resource.prlimit(reader.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        reader.ends_with(exits.CANNOT_RECORD)
        assert "it cannot be written" in reader.said, reader.said
        self.start(name)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Run the body while none of them reads: stopped, or killed."""
        stopped = []
        for reader in self.running.values():
            if self._rig.chance.random() < 0.5:
                os.kill(reader.pid, signal.SIGSTOP)
                stopped.append(reader)
            else:
                reader.kill()
        try:
            yield
        finally:
            for reader in stopped:
                os.kill(reader.pid, signal.SIGCONT)
        for name, reader in self.running.items():
            if reader not in stopped:
                self.start(name)

    def finish(self) -> None:
        """Have all of them take what is there, and end them as an operator would."""
        books.until_read(self._rig)
        for reader in self.running.values():
            reader.end()
            assert "0 missing" in reader.said, reader.said


def reader_killed(rig: Rig) -> Verdict:
    """SIGKILL of the ledger or the archive in the middle of it; no room on its disk."""
    readers = Followers(rig, *BOTH)
    daemon = rig.start(**ALONE).until_running()
    for fault in rig.striking("SIGKILL of a reader", "no room on its disk"):
        rig.until_moving(daemon)
        name = rig.chance.choice(BOTH)
        if fault == "no room on its disk":
            readers.starve(name)
        else:
            readers.kill(name)
    rig.finish(daemon)
    readers.finish()
    return books.verdict(rig)


def readers_rewound(rig: Rig) -> Verdict:
    """What Redis had is gone, or is there again, with the readers inside the daemon."""
    settings = HASTY | {"archive__segment_bytes": str(ARCHIVE_BYTES)}
    daemon = rig.start(**settings).until_running()
    vanish = ("FLUSHALL", "DEL stream", "DEL mark")
    restore, promote = "restored from an older RDB", "promoted, with a clock 5 s behind"
    number = itertools.count()
    with foreign_writer(rig.server, lambda kind: _strange(kind, next(number))):
        for fault in rig.striking(*vanish, restore, promote, "SIGKILL of the daemon"):
            rig.until_moving(daemon)
            if fault in vanish:
                _vanish(rig, fault)
            elif fault == "SIGKILL of the daemon":
                with rig.perhaps_stalled():
                    rig.kill(daemon)
                daemon = rig.start(**settings).until_running()
            else:
                _set_back(rig, daemon, is_ahead=fault == promote)
    rig.until_flowing(daemon)
    books.until_read(rig)
    rig.finish(daemon)
    return books.verdict(rig)


def readers_trimmed(rig: Rig) -> Verdict:
    """Streams are trimmed under readers that stand still; the journal has what they lack."""
    readers = Followers(rig, *BOTH)
    daemon = rig.start(**ALONE, **FORGETFUL).until_running()
    deleted: dict[str, str] = {}
    for fault in rig.striking("XTRIM MAXLEN 0", "XTRIM MINID", "XDEL of the last entry"):
        with readers.away():
            rig.until_moving(daemon)
            rig.until_flowing(daemon)
            deleted |= _trim(rig, fault)
            rig.until_moving(daemon)
        rig.wait()
    daemon.until(lambda: _first_segment(rig) > 1, "the journal forgets what all have")
    rig.finish(daemon)
    readers.finish()
    assert books.logged(rig, "reader.filled"), "nothing had to be filled from the journal"
    for key, last in deleted.items():
        # What somebody deletes between others is missing in Redis, and the audit says so.
        rig.server.client.xtrim(key, minid=last, approximate=False)
    return books.verdict(rig, in_redis=False)


def fills_made_up(rig: Rig) -> Verdict:
    """Fills made up in reconciliation, replaced by the venue's own, and late ones, amid kills."""
    told = rig.folder / "stories"
    settings = HASTY | {"ledger__reader": "alone", "CHAOS_STORIES": str(told)}
    readers = Followers(rig, "ledger", ledger__reader="alone")
    daemon = rig.start(**settings).until_running()
    for fault in rig.striking("SIGKILL of the daemon", "torn tail", "SIGKILL of the ledger"):
        rig.until_moving(daemon)
        if fault == "SIGKILL of the ledger":
            readers.kill("ledger")
            continue
        with rig.perhaps_stalled():
            rig.kill(daemon)
        if fault == "torn tail":
            _tear(rig)
        daemon = rig.start(**settings).until_running()
    rig.until_flowing(daemon)
    books.until_read(rig)
    rig.finish(daemon)
    readers.finish()
    return books.verdict(rig, counts=stories.counts(told))


def _first_segment(rig: Rig) -> int:
    return int(journal_directory.segment_paths(rig.folder / "state" / "journal")[0].stem)


def _tear(rig: Rig) -> None:
    """Leave the begin of a record behind the last one: what follows gets another incarnation."""
    path = journal_directory.segment_paths(rig.folder / "state" / "journal")[-1]
    end = Segment.load(path).seal.end
    with path.open("r+b") as file:
        file.seek(end)
        file.write(MARK + b"\1" * 20)


def _strange(kind: str, number: int) -> Mapping[str, str]:
    """Return an entry of somebody else, no two alike; fills of his can be booked."""
    if kind != "fills":
        return {"status": "foreign", "cl_ord_id": f"X-{number}"}
    return {
        **{"fill_id": f"X-{number}", "cl_ord_id": f"X-{number}", "price": "100", "qty": "1"},
        **{"fee": "0", "venue": "BINANCE", "ts_ns": str(time.time_ns())},
        **{"account": books.STRANGER, "symbol": "BTCUSDT-PERP", "side": "BUY"},
        **{"base_ccy": "BTC", "quote_ccy": "USDT", "multiplier": "1", "inverse": "0"},
        **{"fee_ccy": "USDT", "fee_quote": "0"},
    }


def _vanish(rig: Rig, fault: str) -> None:
    """Have keys vanish with batches in flight."""
    key = rig.chance.choice([KEYS[kind] for kind in ("orders", "fills", "account")])
    words = {
        "FLUSHALL": ("FLUSHALL",),
        "DEL stream": ("DEL", key),
        "DEL mark": ("DEL", f"bridge:mark:{{{key}}}"),
    }[fault]
    rig.server.amid(rig.chance.uniform(0, STALL_SECONDS_MAX), words)


def _set_back(rig: Rig, daemon: TradingDaemon, *, is_ahead: bool) -> None:
    """Set the server back to a moment ago; `is_ahead`: its ids had run ahead since."""
    rig.until_flowing(daemon)
    dump = rig.folder / "dump"
    rig.server.save(dump)
    if is_ahead:
        ahead = f"{time.time_ns() // 10**6 + AHEAD_MS}-0"
        for key in KEYS.values():
            with contextlib.suppress(redis.exceptions.ResponseError):  # there is no such stream
                rig.server.client.execute_command("XSETID", key, ahead)
    rig.until_moving(daemon)
    if rig.chance.random() < 0.5:
        rig.until_flowing(daemon)
        books.until_read(rig, daemon)
    rig.server.kill()
    rig.server.set_back(dump)
    rig.wait(0, 0.3)
    rig.server.start()


def _trim(rig: Rig, fault: str) -> dict[str, str]:
    """Take entries away from all streams; return the last ones that were deleted, by stream."""
    client, deleted = rig.server.client, dict[str, str]()
    for key in KEYS.values():
        if fault == "XTRIM MAXLEN 0":
            client.xtrim(key, maxlen=0, approximate=False)
        elif last := client.xrevrange(key, count=1):
            last_id = last[0][0]
            if fault == "XTRIM MINID":
                ms = int(last_id.partition("-")[0])
                client.xtrim(key, minid=ms - rig.chance.randint(0, 500), approximate=False)
            else:
                client.xdel(key, last_id)
                deleted[key] = last_id
    return deleted

"""Rows of what is kept of the exec streams: ledger, archive, and the audit of all places."""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bridge import archive_segments
from bridge.core import resp, scripts
from bridge.core.contract import EXEC_KINDS, TAIL, VERSION, Entry, default_names
from bridge.core.lanes import ExecStream, tail_encoder
from bridge.exits import DONE, FAILED
from bridge.journal import Journal, Limits
from bridge.ledger_view import LedgerView
from bridge.metrics import Metrics
from bridge.reader_link import ReaderLink
from bridge.readers import Feed, Places
from bridge.settings import Config, StateSettings
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.orders import TRADER, entries
from tests.bench.reference import Reference
from tests.bench.steady import MIB
from tests.bridge.processes import ROOT, environment
from tests.servers import RedisServer

LEDGER_FILLS = 25_600
ARCHIVE_RECORDS = 102_400
AUDIT_ENTRIES = 1_000_000
PROGRESS_ENTRIES = 50_000
RSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss

# The audit is started by a process that is small itself: what its parent had in memory when it was
# started counts as its own peak, too.
MEASURED = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
seconds, code = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
print(code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


# Where it is kept.


class Kept:
    """The state folder of a bridge, and its Redis.

    `ends` are the last numbers that were recorded, by kind and producer.
    """

    def __init__(self, server: RedisServer, state: Path) -> None:
        self.server, self.state = server, state
        self.ends: dict[tuple[str, str], int] = {}

    def record(self, ready: Iterable[Entry]) -> None:
        """Write entries into the journal and the streams; print a dot now and then."""
        streams = {kind: ExecStream(kind, default_names().key(kind)) for kind in EXEC_KINDS}
        commands = {
            kind: resp.xadd_prefix(stream.key, len(stream.names) + len(TAIL)).encode()
            for kind, stream in streams.items()
        }
        with (
            contextlib.closing(Journal.open(self.state / "journal", TRADER, Limits())) as journal,
            contextlib.closing(ReaderLink(self.server.url, "bench")) as link,
        ):
            journal.claim()
            tail, ids = tail_encoder(journal.producer, VERSION), dict[str, bytes]()
            for chunk in itertools.batched(ready, CHUNK):
                sent = []
                for kind, values, once in chunk:
                    stream, jseq = streams[kind], journal.jseq + 1
                    stream.seq += 1
                    payload = stream.encode(values)
                    journal.append(stream.index, stream.seq, jseq, 2 * len(values), once, payload)
                    sent.append(commands[kind] + payload + tail(stream.seq, jseq))
                ids |= zip([kind for kind, *_ in chunk], link.ask(sent), strict=True)
                if jseq % PROGRESS_ENTRIES < CHUNK:
                    print(".", end="", flush=True)
            for kind, entry_id in ids.items():
                key, seq = scripts.mark_key(streams[kind].key), streams[kind].seq
                mark = f"{seq} {entry_id.decode()} {seq}"
                link.ask([resp.command("HSET", key, journal.producer, mark)])
                self.ends[kind, journal.producer] = seq

    def fed(self, name: str, state: Path) -> tuple[float, float]:
        """Read all of it into a fresh ledger or archive, as the daemon does.

        Returns the seconds that it took, and those of CPU.
        """
        feed, stopped, ended = Feed(name, self.places(state), Metrics()), threading.Event(), [0.0]

        def look(_: str) -> None:
            if not ended[0] and all(
                feed.is_taken(kind, producer, 1, seq) for (kind, producer), seq in self.ends.items()
            ):
                ended[0] = time.perf_counter()
                stopped.set()

        start, cpu = time.perf_counter(), time.thread_time()
        feed.read(stopped, look)
        return ended[0] - start, time.thread_time() - cpu

    def places(self, state: Path) -> Places:
        """Return where a bridge with this state folder keeps what it records."""
        return Places(Config(state=StateSettings(directory=state)), self.server.url, state)


# The rows.


def ledger(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the fills per second from Redis into a fresh ledger, each batch durable."""
    fills = (each for each in entries() if each.kind == "fills")
    count = bench.entries(LEDGER_FILLS)
    for places, round_ in _fed(bench, rounds, "ledger", itertools.islice(fills, count), count):
        with contextlib.closing(LedgerView.read_only(places.ledger)) as view:
            yield round_._replace(lost=count - view.counts().fills)


def archive(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the records per second from Redis into a fresh archive, each batch durable."""
    count = bench.entries(ARCHIVE_RECORDS)
    ready = itertools.islice(entries(), count)
    for places, round_ in _fed(bench, rounds, "archive", ready, count):
        yield round_._replace(lost=count - archive_segments.cursors(places.archive).last)


def _fed(
    bench: Bench, rounds: int, name: str, ready: Iterable[Entry], count: int
) -> Iterator[tuple[Places, Round]]:
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        raw = stack.enter_context(contextlib.closing(Reference(server, [])))
        kept = Kept(server, bench.folder / name)
        kept.record(ready)
        for number in range(rounds):
            state = bench.folder / f"{name}-{number}"
            seconds, cpu = kept.fed(name, state)
            detail = {"us": seconds / count * 1e6, "cpu_us": cpu / count * 1e6}
            detail["ping_us"] = raw.ping_seconds() * 1e6
            yield kept.places(state), Round(count / seconds, detail)


def audit(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the seconds of an audit of a million entries that are everywhere."""
    for each in _audited(bench, rounds):
        detail = {"cpu_s": each.cpu_seconds, "fills": each.fills, "ping_us": each.ping * 1e6}
        yield Round(each.seconds, detail, each.lost)


def audit_rss(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the peak of the memory of the same audits, in MiB."""
    for each in _audited(bench, rounds):
        yield Round(each.rss_bytes / MIB, {"audit_s": each.seconds}, each.lost)


class Audited(NamedTuple):
    """One run of the command; `lost` are entries that it did not find everywhere."""

    seconds: float
    cpu_seconds: float
    rss_bytes: int
    fills: int
    lost: int
    ping: float


@cache
def _audited(bench: Bench, rounds: int) -> list[Audited]:
    """Make the places once for both rows, and audit them again and again."""
    count, state = bench.entries(AUDIT_ENTRIES), bench.folder / "audit"
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        raw = stack.enter_context(contextlib.closing(Reference(server, [])))
        kept = Kept(server, state)
        kept.record(itertools.islice(entries(), count))
        for name in ("archive", "ledger"):
            kept.fed(name, state)
            print(".", end="", flush=True)
        return [_audit(kept, count, raw.ping_seconds()) for _ in range(rounds)]


def _audit(kept: Kept, count: int, ping: float) -> Audited:
    command = (sys.executable, "-m", "bridge", "audit", "--json", "--url", kept.server.url)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=ROOT,
        env=environment({"state__directory": str(kept.state)}),
        capture_output=True,
        text=True,
        check=True,
    )
    print(".", end="", flush=True)
    said, _, used = done.stdout.rstrip().rpartition("\n")
    code, seconds, cpu_seconds, rss = map(float, used.split())
    if code not in (DONE, FAILED):
        raise RuntimeError(f"the audit ended with {code:.0f}: {done.stderr}")
    held = [row["held"] for row in json.loads(said)["rows"]]
    found = sum(min(each for each in row.values() if each is not None) for row in held)
    fills = sum(row["ledger"] or 0 for row in held)
    lost = count - found if code == DONE else count
    return Audited(seconds, cpu_seconds, int(rss * RSS_BYTES), fills, lost, ping)

"""The ledger and the archive at work: a thread each inside the daemon, or alone in a process.

A reader that fails is told of and tried again: trading does not depend on it, and what it lacks is
kept for it by the journal.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import redis
import structlog

from bridge import archive_segments
from bridge.archive import Archive, Head
from bridge.core import contract
from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, Names
from bridge.core.limits import DOLLARS, ZERO
from bridge.exits import Exit
from bridge.history import JournalHistory
from bridge.ledger import Ledger
from bridge.ledger_view import LedgerView
from bridge.metrics import READERS, Metrics
from bridge.preflight import client_of
from bridge.reader import Reader
from bridge.reading import History, Item, Taken
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.readers")

RETRY_SECONDS: Final = 1.0
OBSERVE_SECONDS: Final = 1.0
CATCH_UP_SECONDS_MAX: Final = 1.0
FAILURES: Final = (Exit, OSError, sqlite3.Error)
KINDS: Final = {"ledger": Ledger.kinds, "archive": Archive.kinds}


def _nothing(_: str) -> None:
    """Tell nobody."""


class Places:
    """Where the ledger and the archive of a configuration are, and what they read."""

    def __init__(self, config: Config, url: str, state: Path) -> None:
        self.config = config
        self.url = url
        self.ledger = config.ledger_path or state / "ledger.db"
        self.archive = config.archive_directory or state / "archive"
        self.journal = config.journal_directory or state / "journal"
        names = Names(config.stream_prefix, config.streams.templates)
        self.streams = {kind: names.key(kind) for kind in EXEC_KINDS}
        self.heads = names.key(ARCHIVE_KIND)

    def kept(self) -> list[str]:
        """Return which of the two there are, or should be."""
        off = {"ledger": self.config.ledger.reader, "archive": self.config.archive.reader}
        paths = {"ledger": self.ledger, "archive": self.archive}
        return [name for name in READERS if off[name] != "off" or paths[name].exists()]

    def taken(self, name: str) -> Taken:
        """Return what a reader has taken, read from its files, beside it.

        Raises Exit, OSError, sqlite3.Error.
        """
        if name == "archive":
            return archive_segments.cursors(self.archive).taken
        with contextlib.closing(LedgerView.read_only(self.ledger)) as view:
            return view.taken_now()


class Feed:
    """One reader and its sink, opened again after a failure."""

    def __init__(self, name: str, places: Places, metrics: Metrics) -> None:
        self.name = name
        self.failure: str | None = "not begun"
        self.said = "nothing taken"
        self._places = places
        self._metrics = metrics
        self._stopped = threading.Event()
        # What of it is durable, as it was behind the last step.
        self._durable: Taken = {}
        self._observed_at = 0.0
        self._counted = (0, 0)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read in a thread."""
        self._thread = threading.Thread(target=self._go_on, name=f"bridge.{self.name}", daemon=True)
        self._thread.start()

    def stop(self, seconds_max: float) -> None:
        """Take what is still there, for so long at most; close the sink."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(seconds_max)

    def is_taken(self, kind: str, producer: str, first: int, last: int) -> bool:
        """Return whether it has these numbers, or does not read them. From any thread."""
        return kind not in KINDS[self.name] or _covers(self._durable, kind, producer, first, last)

    def read(self, stopped: threading.Event, tell: Callable[[str], None] = _nothing) -> None:
        """Open the sink and read until `stopped`; then take what is there already.

        `tell` gets `said` after each step. Raises Exit, OSError, sqlite3.Error.
        """
        config, sink = self._places.config, self._open()
        try:
            reader = Reader(
                self._places.url,
                sink,
                self._places.streams,
                self._histories(),
                batch_entries_max=config.readers.batch_entries_max,
            )
            if isinstance(sink, Ledger):
                reader.on_buried = lambda _: sink.mark_published()
                reader.bury(sink.unpublished_dead())
                reader.elsewhere = self._archived

            def on_step() -> None:
                self._on_step(reader, sink)
                tell(self.said)

            reader.on_step = on_step
            self._counted = (0, 0)
            self._durable, self.failure = _copy(sink.taken), None
            self._metrics.reader_up[self.name].set(1)
            log.info("reader.up", reader=self.name)
            reader.run(stopped, config.readers.linger_seconds)
            _catch_up(reader)
            self._on_step(reader, sink)
        finally:
            self._metrics.reader_up[self.name].set(0)
            sink.close()

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            try:
                self.read(self._stopped)
            except FAILURES as error:
                if self.failure != str(error):
                    self.failure = str(error)
                    log.error("reader.failed", reader=self.name, problem=self.failure)
                self._stopped.wait(RETRY_SECONDS)

    def _open(self) -> Archive | Ledger:
        places, config = self._places, self._places.config
        if self.name == "ledger":
            return Ledger.open(places.ledger, places.streams)
        return Archive.open(
            places.archive,
            places.streams,
            segment_bytes=config.archive.segment_bytes,
            head_records=config.archive.head_records,
            on_head=self._on_head,
        )

    def _histories(self) -> list[History]:
        found: list[History] = [JournalHistory(self._places.journal)]
        if self.name == "ledger":
            found.append(ArchiveHistory(self._places.archive))
        return found

    def _archived(self) -> dict[tuple[str, str], int]:
        """Return the last numbers in the archive: a ledger that was lost comes back from there."""
        try:
            return {key: spans.last for key, spans in self._places.taken("archive").items()}
        except OSError:
            return {}  # there is none, or `archive verify` tells what is wrong with it

    def _on_head(self, head: Head) -> None:
        """Tell where the archive ends, in places that are not the archive."""
        log.info("archive.head", **head._asdict())
        client = client_of(self._places.url)
        try:
            client.xadd(self._places.heads, dict[Any, Any](contract.head(*head)))
        except (redis.RedisError, OSError) as error:
            log.warning("archive.head_not_published", problem=str(error))
        finally:
            client.close()

    def _on_step(self, reader: Reader, sink: Archive | Ledger) -> None:
        self.said = f"{reader.taken} entries taken, {reader.lag} behind, {reader.gaps} missing"
        if reader.taken != self._counted[0]:
            self._durable = _copy(sink.taken)
        if time.monotonic() < self._observed_at:
            return
        self._observed_at = time.monotonic() + OBSERVE_SECONDS
        metrics, name = self._metrics, self.name
        now = reader.taken, reader.dead
        counters = metrics.reader_taken, metrics.reader_dead
        for counter, value, before in zip(counters, now, self._counted, strict=True):
            counter[name].inc(max(0, value - before))
        self._counted = now
        metrics.reader_lag[name].set(reader.lag)
        metrics.reader_gaps[name].set(reader.gaps)
        if isinstance(sink, Archive):
            metrics.archive_records.set(sink.last)
        else:
            _observe_ledger(sink, metrics)


class ArchiveHistory:
    """The archive as a history for the ledger; empty where there is none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
        """As History.find."""
        if self._directory.exists():
            yield from archive_segments.find(self._directory, kind, producer, first, last)


class Readers:
    """The readers that a configuration has inside the daemon; what the others have taken is read
    from their files."""

    def __init__(self, places: Places, metrics: Metrics) -> None:
        config = places.config
        who = {"ledger": config.ledger.reader, "archive": config.archive.reader}
        self.feeds = [Feed(name, places, metrics) for name in READERS if who[name] == "inside"]
        self._alone = [name for name in READERS if who[name] == "alone"]
        self._places = places

    def start(self) -> None:
        """Begin to read."""
        for feed in self.feeds:
            feed.start()

    def stop(self, seconds_max: float) -> None:
        """Take what is still there, for so long at most."""
        deadline = time.monotonic() + seconds_max
        for feed in self.feeds:
            feed.stop(max(0.0, deadline - time.monotonic()))

    def is_taken(self, kind: str, producer: str, first: int, last: int) -> bool:
        """Return whether every reader that is to has these numbers. From any thread."""
        span = kind, producer, first, last
        if not all(feed.is_taken(*span) for feed in self.feeds):
            return False
        try:
            return all(
                kind not in KINDS[name] or _covers(self._places.taken(name), *span)
                for name in self._alone
            )
        except FAILURES:
            return False


def _catch_up(reader: Reader) -> None:
    """Take what is in Redis by now, as far as it answers in time."""
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    with contextlib.suppress(redis.RedisError):
        while time.monotonic() < deadline and (reader.step() or reader.is_due):
            pass
    reader.close()


def _copy(taken: Taken) -> Taken:
    return {key: spans.copy() for key, spans in taken.items()}


def _covers(taken: Taken, kind: str, producer: str, first: int, last: int) -> bool:
    spans = taken.get((kind, producer))
    return spans is not None and spans.covers(first, last)


def _observe_ledger(ledger: Ledger, metrics: Metrics) -> None:
    counts = ledger.counts()
    metrics.ledger_fills.set(counts.fills - counts.waiting - counts.replaced)
    metrics.ledger_unpriced.set(counts.unpriced)
    metrics.ledger_open_lots.set(ledger.open_lots)
    gauges = metrics.ledger_realized, metrics.ledger_fees, metrics.ledger_funding
    sums = [each for ccy, each in ledger.sums.items() if ccy in DOLLARS]
    for gauge, amounts in zip(gauges, zip(*sums, strict=True), strict=False):
        gauge.set(float(sum(amounts, start=ZERO)))

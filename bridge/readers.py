"""The ledger and the archive at work: a thread each inside the daemon, or alone in a process.

A reader that fails is told of and tried again. Trading goes on meanwhile: what it lacks is kept for
it by the journal, until that reaches `journal.bytes_max`.
"""

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis
import structlog

from bridge import archive_segments
from bridge.archive import Archive, Head
from bridge.archive_history import ArchiveHistory
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
from bridge.reading import History, Taken
from bridge.settings import Config

log = structlog.get_logger("nautilus_bridge.readers")

RETRY_SECONDS: Final = 1.0
# So many times as long as a look at the files took nobody looks again.
LOOK_SHARE: Final = 50
LOOK_SECONDS_MAX: Final = 60.0
OBSERVE_SECONDS: Final = 1.0
NOT_BEGUN: Final = "not begun"
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
        """Return which of the two there should be."""
        return [name for name in READERS if self.reader_of(name) != "off"]

    def reader_of(self, name: str) -> str:
        """Return who feeds one of the two: `inside`, `alone` or `off`."""
        return self.config.ledger.reader if name == "ledger" else self.config.archive.reader

    def path_of(self, name: str) -> Path:
        """Return the file or folder of one of the two."""
        return self.ledger if name == "ledger" else self.archive

    def taken(self, name: str) -> Taken:
        """Return what a reader has taken, read from its files, beside it.

        Raises Exit, OSError, sqlite3.Error.
        """
        if name == "archive":
            return archive_segments.cursors(self.archive).taken
        with contextlib.closing(LedgerView.read_only(self.ledger)) as view:
            return view.taken_now()


class Feed:
    """One reader and its sink, opened again after a failure.

    While another process feeds the sink, and always unless `is_ours`, what that has taken is read
    from its files.
    """

    def __init__(
        self, name: str, places: Places, metrics: Metrics, *, is_ours: bool = True
    ) -> None:
        self.name = name
        self.failure: str | None = NOT_BEGUN
        self.said = "nothing taken"
        # Entries that are nowhere, as it was behind the last step.
        self.gaps = 0
        self._places = places
        self._metrics = metrics
        self._is_ours = is_ours
        self._stopped = threading.Event()
        # What of it is durable, as it was behind the last step.
        self._durable: Taken = {}
        self._observed_at = 0.0
        self._counted = (0, 0)
        self._thread: threading.Thread | None = None

    @property
    def is_down(self) -> bool:
        """Whether it is to read, has tried, and cannot."""
        return self._is_ours and self.failure not in (None, NOT_BEGUN)

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
        with contextlib.closing(self._open()) as sink:
            reader = self._reader(sink, tell)
            self._counted, self._observed_at = (0, 0), 0.0
            self._durable = _copy(sink.taken)
            if isinstance(sink, Ledger):
                self._take_foreign(sink)
            try:
                reader.run(stopped, self._places.config.readers.linger_seconds)
                _catch_up(reader)
                self._observed_at = 0.0
                self._on_step(reader, sink)
            finally:
                self._metrics.reader_up[self.name].set(0)
                self._count(reader)

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            if self._is_ours:
                try:
                    self.read(self._stopped)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                    if self.failure != (said := str(error) or type(error).__name__):
                        self.failure = said
                        log.error("reader.failed", reader=self.name, problem=said)
            if not self._stopped.is_set():
                self._stopped.wait(self._look())

    def _look(self) -> float:
        """See what is durable by now; return how long to wait, so that looking costs little."""
        began = time.monotonic()
        with contextlib.suppress(*FAILURES):  # it is not there yet, or damaged: that is no less
            self._durable = self._places.taken(self.name)
        wanted = LOOK_SHARE * (time.monotonic() - began)
        return min(max(RETRY_SECONDS, wanted), LOOK_SECONDS_MAX)

    def _reader(self, sink: Archive | Ledger, tell: Callable[[str], None]) -> Reader:
        places, archive = self._places, ArchiveHistory(self._places.archive)
        histories: list[History] = [JournalHistory(places.journal)]
        histories += [archive] if isinstance(sink, Ledger) else []
        reader = Reader(
            places.url,
            sink,
            places.streams,
            histories,
            batch_entries_max=places.config.readers.batch_entries_max,
        )
        if isinstance(sink, Ledger):
            reader.elsewhere = archive.lasts
            reader.on_buried = lambda _: sink.mark_published()
            reader.bury(sink.unpublished_dead())

        def on_step() -> None:
            if self.failure is not None:
                self.failure = None
                self._metrics.reader_up[self.name].set(1)
                log.info("reader.up", reader=self.name)
            self._on_step(reader, sink)
            tell(self.said)

        reader.on_step = on_step
        return reader

    def _take_foreign(self, ledger: Ledger) -> None:
        """Have a ledger that begins take what the archive holds of other writers: of these no
        number tells that they are missing, and Redis may have been trimmed. Raises sqlite3.Error.
        """
        if ledger.places:
            return
        with contextlib.suppress(OSError):  # there is none, or `archive verify` tells
            found = archive_segments.foreign(self._places.archive)
            ours = (item for item in found if item.kind in ledger.kinds)
            for items in itertools.batched(ours, self._places.config.readers.batch_entries_max):
                ledger.take(items, {})

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
        self._count(reader)
        if isinstance(sink, Archive):
            self._metrics.archive_records.set(sink.last)
        else:
            _observe_ledger(sink, self._metrics)

    def _count(self, reader: Reader) -> None:
        metrics, name = self._metrics, self.name
        now = reader.taken, reader.dead
        counters = metrics.reader_taken, metrics.reader_dead
        for counter, value, before in zip(counters, now, self._counted, strict=True):
            counter[name].inc(max(0, value - before))
        self._counted = now
        metrics.reader_lag[name].set(reader.lag)
        metrics.reader_gaps[name].set(reader.gaps)
        self.gaps = reader.gaps


class Readers:
    """The readers that a configuration has inside the daemon, and what those alone have taken.

    With `attached` nobody reads inside: a bridge in somebody else's node waits for those alone.
    """

    def __init__(self, places: Places, metrics: Metrics, *, attached: bool = False) -> None:
        who = {name: places.reader_of(name) for name in READERS}
        self.feeds = [
            Feed(name, places, metrics, is_ours=who[name] == "inside")
            for name in READERS
            if who[name] == "alone" or (who[name] == "inside" and not attached)
        ]
        for name in READERS:
            metrics.reader_wanted[name].set(who[name] == "inside" and not attached)

    def start(self) -> None:
        """Begin to read."""
        for feed in self.feeds:
            feed.start()

    def stop(self, seconds_max: float) -> None:
        """Take what is still there, for so long at most."""
        deadline = time.monotonic() + seconds_max
        for feed in self.feeds:
            feed.stop(max(0.0, deadline - time.monotonic()))

    @property
    def problem(self) -> str | None:
        """Which of those inside does not read, and why; None when all do."""
        down = [f"{feed.name}: {feed.failure}" for feed in self.feeds if feed.is_down]
        return "; ".join(down) or None

    @property
    def gaps(self) -> dict[str, int]:
        """How many entries each of them misses that are nowhere."""
        return {feed.name: feed.gaps for feed in self.feeds}

    def is_taken(self, kind: str, producer: str, first: int, last: int) -> bool:
        """Return whether every reader that is to has these numbers. From any thread."""
        return all(feed.is_taken(kind, producer, first, last) for feed in self.feeds)


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

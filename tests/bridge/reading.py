"""A sink in memory, and a journal, a publisher, a Redis and a reader in a row."""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.core.contract import EXEC_KINDS
from bridge.core.spans import Spans
from bridge.history import JournalHistory
from bridge.reader import Reader
from bridge.reading import Dead, History, Item, Place, digest_of
from tests.bridge.journal_rig import JournalRig, Session
from tests.proxies import NAMES, until
from tests.servers import RedisServer

STREAMS = {kind: NAMES.key(kind) for kind in EXEC_KINDS}


class MemorySink:
    """Takes entries into a list. `on_take` is called before it counts, `on_taken` behind it: what
    they raise is the sink's failure. `is_bad` tells which entries it cannot use.
    """

    name = "memory"

    def __init__(self, kinds: Sequence[str] = EXEC_KINDS) -> None:
        self.kinds = tuple(kinds)
        self.items: list[Item] = []
        self.taken: dict[tuple[str, str], Spans] = defaultdict(Spans)
        self.places: dict[str, Place] = {}
        self.takes = 0
        self.asked: list[Item] = []
        self.on_take: Callable[[], object] = _nothing
        self.on_taken: Callable[[], object] = _nothing
        self.is_bad: Callable[[Item], bool] = _no
        self._foreign: set[tuple[str, bytes]] = set()

    def new_ones(self, foreign: Sequence[Item]) -> Sequence[Item]:
        self.asked += foreign
        return [each for each in foreign if (each.id, digest_of(each.fields)) not in self._foreign]

    def take(self, items: Sequence[Item], places: Mapping[str, Place]) -> Sequence[Dead]:
        self.takes += 1
        self.on_take()
        for item in items:
            self.items.append(item)
            if not item.producer:
                self._foreign.add((item.id, digest_of(item.fields)))
                continue
            assert item.seq not in self.taken[item.kind, item.producer], f"doubled: {item}"
            self.taken[item.kind, item.producer].add(item.seq)
        self.places |= places
        self.on_taken()
        return [
            Dead(item.kind, item.id, "price: bad", item.fields)
            for item in items
            if self.is_bad(item)
        ]

    def texts(self, kind: str) -> list[str]:
        """Return the first field of our entries of a kind, in the order they were taken."""
        return [
            item.fields[1].decode()
            for item in self.items
            if item.kind == kind and item.producer and b"base" not in item.fields[:6]
        ]

    def seqs(self, kind: str) -> list[int]:
        return [item.seq for item in self.items if item.kind == kind and item.producer]

    @property
    def foreign(self) -> list[Item]:
        return [item for item in self.items if not item.producer]

    def check(self, rig: JournalRig) -> None:
        """The law: what was appended was taken, each entry once, in order."""
        for kind in self.kinds:
            assert self.texts(kind) == rig.appended[kind], kind


class Row:
    """A journal that is published to a server, and a reader of that behind it."""

    def __init__(
        self,
        folder: Path,
        server: RedisServer,
        *,
        histories: Sequence[History] | None = None,
        batch_entries_max: int = 16,
        url: str | None = None,
        **settings: dict[str, Any],
    ) -> None:
        self.server = server
        self.client = server.client
        self.rig = JournalRig(folder, **settings)
        self.sink = MemorySink()
        journal = JournalHistory(self.rig.directory)
        self.histories = [journal] if histories is None else histories
        self._batch_entries_max = batch_entries_max
        self.reader = self.new_reader(url)

    def new_reader(self, url: str | None = None) -> Reader:
        """Return another reader of the same sink, as after a restart."""
        return Reader(
            url or self.server.url,
            self.sink,
            STREAMS,
            self.histories,
            batch_entries_max=self._batch_entries_max,
        )

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[Session]:
        """Publish what the body appends."""
        try:
            async with self.rig.running(self.server.port) as session:
                yield session
        finally:
            self.reader.close()

    def read(self) -> int:
        """Read all there is now; return how many entries were taken."""
        count = self.reader.step()
        while self.reader.is_due:
            count += self.reader.step()
        return count

    async def until_taken(self) -> None:
        """Read until all that was appended was taken."""
        wanted = {kind: len(texts) for kind, texts in self.rig.appended.items()}

        def is_done() -> bool:
            self.reader.step()
            return all(len(self.sink.texts(kind)) >= count for kind, count in wanted.items())

        await until(is_done)


def put(session: Session, *kinds: str, count: int = 1) -> None:
    """Append entries of several kinds in turn."""
    for _ in range(count):
        for kind in kinds:
            session.append(kind)


def _nothing() -> None:
    """Do not fail."""


def _no(_: Item) -> bool:
    return False

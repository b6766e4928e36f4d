"""A publisher over a real journal in a folder, over several sessions, and what was put into it."""

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import redis

from bridge.assembly import make_publisher
from bridge.core import contract, scripts
from bridge.core.contract import EXEC_KINDS, STREAMS
from bridge.core.resp import Reply, ReplyParser
from bridge.embedded_redis import HOST
from bridge.journal import Journal
from bridge.lease import Lease
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.records import Records, limits
from bridge.settings import Config
from tests.proxies import NAMES, WAIT_SECONDS_MAX, exec_entries, key, until

# How the command begins that ships a batch.
SHIPS = [b"EVALSHA", scripts.digest(scripts.SHIP).encode()]


class Session:
    """One run of a bridge: a publisher, its journal, and who appends to it."""

    task: asyncio.Task[None]

    def __init__(
        self,
        rig: "JournalRig",
        port: int,
        lease: Lease | None,
        *,
        threaded: bool = False,
        user: str = "",
    ) -> None:
        self.rig = rig
        self.metrics = Metrics()
        self.records = Records.open(rig.config, rig.producer_id)
        self.journal = self.records.journal
        self.publisher: Publisher = make_publisher(
            rig.config,
            NAMES,
            self.metrics,
            url=f"redis://{user}{HOST}:{port}/0",
            producer_id=rig.producer_id,
            records=self.records,
            lease=lease,
            threaded=threaded,
        )
        self.lane = self.publisher.exec.lane

    @property
    def producer(self) -> str:
        return self.lane.producer

    def append(self, kind: str, count: int = 1) -> None:
        """Put `count` entries into the exec lane, each telling its number in every field."""
        for _ in range(count):
            text = f"{kind} {len(self.rig.appended[kind])}"
            self.rig.appended[kind].append(text)
            self.lane.append(contract.entry(kind, dict.fromkeys(STREAMS[kind].names, text)))

    async def drained(self) -> None:
        """Wait until Redis has confirmed everything."""
        assert await self.publisher.drain(WAIT_SECONDS_MAX), self.publisher.problem

    async def until_refused(self, kind: str) -> None:
        """Wait until Redis is known to refuse a stream."""
        await until(lambda: f"refuses entries of {key(kind)}" in (self.publisher.problem or ""))

    def count(self, name: str, **labels: str) -> int:
        """Return the value of a metric."""
        value = self.metrics.registry.get_sample_value(f"nautilus_bridge_{name}", labels)
        assert value is not None, name
        return int(value)

    def close(self) -> None:
        """Give the journal back."""
        self.publisher.exec.close()
        self.records.close()


class JournalRig:
    """What outlives a session: the folder of the journal, and what was appended, by kind.

    `settings` are sections of the configuration, such as exec={"in_flight_max": 64}.
    """

    def __init__(self, folder: Path, *, producer_id: str = "T", **settings: dict[str, Any]) -> None:
        self.folder = folder
        self.producer_id = producer_id
        self.appended: dict[str, list[str]] = {kind: [] for kind in EXEC_KINDS}
        defaults = {
            "state": {"directory": folder},
            "redis": {"reconnect_seconds_max": 0.05},
            "exec": {"batch_entries_max": 10},
        }
        self.config = Config.model_validate(defaults | settings)

    @contextlib.asynccontextmanager
    async def running(
        self, port: int, *, lease: Lease | None = None, connected: bool = True, user: str = ""
    ) -> AsyncIterator[Session]:
        """Publish; with `connected` the body begins when both connections stand.

        Raises what the publisher raised, behind the body.
        """
        session = Session(self, port, lease, user=user)
        task = session.task = asyncio.create_task(session.publisher.run())
        try:
            if connected:
                await until(lambda: task.done() or session.publisher.problem is None)
            yield session
        finally:
            task.cancel()
            await asyncio.wait({task})
            session.close()
        if not task.cancelled():
            task.result()

    def offline(self, append: Callable[[Session], None]) -> str:
        """Have a session append that has no Redis; return its producer."""
        session = Session(self, 1, None)
        append(session)
        session.close()
        return session.producer

    def write(self, rows: Sequence[tuple[str, dict[str, str]]]) -> None:
        """Write entries of any shape into the journal, as another contract's version would."""
        with self.journal() as journal:
            for kind, fields in rows:
                payload = b"".join([b"$%d\r\n%s\r\n" % (len(w), w) for w in _words(fields)])
                seq, width = journal.seqs.get(kind, 0) + 1, 2 * len(fields)
                index = EXEC_KINDS.index(kind)
                journal.append(index, seq, journal.jseq + 1, width, b"", payload)

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        """Open the journal alone."""
        journal = Journal.open(self.directory, self.producer_id, limits(self.config))
        try:
            yield journal
        finally:
            journal.close()

    @property
    def directory(self) -> Path:
        path = self.config.journal_directory
        assert path is not None
        return path

    @property
    def segments(self) -> list[Path]:
        """The journal's files, oldest first."""
        return sorted(self.directory.glob("*.seg"))

    def check(self, client: redis.Redis) -> None:
        """The law: each stream holds what was appended, each entry once, in order, densely."""
        for kind, appended in self.appended.items():
            texts = ours(client, kind)
            assert texts == appended, difference(kind, texts, appended)
        check_numbers(client)


def ours(client: redis.Redis, kind: str) -> list[str]:
    """Return the texts of our entries in a stream, without what others wrote, and holes."""
    field = STREAMS[kind].names[0]
    rows = [
        row for row in exec_entries(client, kind) if "seq" in row and row.get("cause") != "base"
    ]
    return [row[field] for row in rows]


def check_numbers(client: redis.Redis) -> None:
    """Each producer's numbers are 1, 2, 3 ... in each stream, and its jseq rises."""
    for kind in EXEC_KINDS:
        numbers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in exec_entries(client, kind):
            if "seq" in row:
                numbers[row["producer"]].append((int(row["seq"]), int(row["jseq"])))
        for producer, pairs in numbers.items():
            seqs = [seq for seq, _ in pairs]
            assert seqs == list(range(1, len(seqs) + 1)), (kind, producer)
            assert all(a[1] < b[1] for a, b in itertools.pairwise(pairs)), (kind, producer)


def difference(kind: str, found: Sequence[str], wanted: Sequence[str]) -> str:
    """Say in a few words how two sequences differ."""
    place = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), None)
    doubled = len(found) - len(set(found))
    lost = len(set(wanted) - set(found))
    return (
        f"{kind}: {len(found)} of {len(wanted)}, {lost} lost, {doubled} doubled, differ at {place}:"
        f" {found[place : place + 3] if place is not None else 'the end'}"
    )


def bases(client: redis.Redis) -> list[str]:
    """Return the reasons of what tells of holes."""
    return [row["reason"] for row in exec_entries(client, "control") if row["cause"] == "base"]


def _words(fields: dict[str, str]) -> Iterator[bytes]:
    for name, value in fields.items():
        yield name.encode()
        yield value.encode()


class Gate:
    """A proxy that hands Redis one command at a time, and calls `before` ahead of each.

    So something can happen between two batches that are both in flight. `batches` counts them,
    `stream` is where the latest goes; `commands` are the names of all that went through, `replies`
    what Redis said to each.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.batches = 0
        self.stream = ""
        self.commands: list[bytes] = []
        self.replies: list[Reply] = []
        # A batch that comes while this is not set is kept back until that very event is.
        self.flow = asyncio.Event()
        self.flow.set()
        self.held = 0  # how many batches were kept back
        self.before_batch: Callable[[int], None] = lambda _: None
        self._upstream_port = port
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, self._tasks), return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        commands = ReplyParser()  # a command is an array of bulk strings like any other
        try:
            while data := await reader.read(1 << 20):
                for words in commands.feed(data):
                    assert isinstance(words, list)
                    if words[:2] == SHIPS:
                        self.held += not self.flow.is_set()
                        await self.flow.wait()
                    self._tell(words)
                    far_writer.write(_command(words))
                    data, reply = await _one_reply(far_reader)
                    self.replies.append(reply)
                    if writer.is_closing():
                        raise ConnectionResetError
                    writer.write(data)
        except (OSError, RuntimeError):  # uvloop raises the latter where a transport is closed
            pass  # one end has gone: so does the other
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    def _tell(self, words: list[Reply]) -> None:
        assert isinstance(words[0], bytes)
        self.commands.append(words[0])
        if words[:2] == SHIPS:
            self.batches += 1
            self.stream = str(words[3], "utf-8") if isinstance(words[3], bytes) else ""
            self.before_batch(self.batches)


def _command(words: list[Reply]) -> bytes:
    texts = [word for word in words if isinstance(word, bytes)]
    return b"*%d\r\n%s" % (len(texts), b"".join([b"$%d\r\n%s\r\n" % (len(w), w) for w in texts]))


async def _one_reply(reader: asyncio.StreamReader) -> tuple[bytes, Reply]:
    """Return the bytes of a reply, and what they say."""
    parser, read = ReplyParser(), b""
    while True:
        data = await reader.read(1 << 16)
        if not data:
            raise ConnectionResetError
        read += data
        if replies := parser.feed(data):
            return read, replies[0]

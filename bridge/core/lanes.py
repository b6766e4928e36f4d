"""The two queues between the tap and the publisher.

`ExecLane` keeps everything until Redis has confirmed it. `MarketLane` is bounded and may lose:
quotes conflate, the rest drops its oldest, and every loss is counted. Neither blocks, reads a clock
or knows what an event is.

In a backtest the tap appends from the engine's thread while the publisher takes in its own: both
lanes rely on nothing but the atomicity of `deque.append` and `deque.popleft`, and on the order of
"append, then wake" against "disarm, then take".
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS, Entry, Names

CHUNK_ENTRIES_MAX: Final = 256


class LaneFull(Exception):
    """The exec lane holds all it may, and Redis confirms nothing: recording must stop."""


class Refused(Exception):
    """An event that cannot be translated. `reason` is one of the metric's closed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class ExecStream:
    """What waits for one exec stream, oldest first, and how much of it is on the wire."""

    kind: str
    key: str
    encode: Callable[[Sequence[str]], bytes]
    seq: int = 0
    in_flight: int = 0
    # (the whole XADD, when it was appended): kept until acknowledged.
    entries: deque[tuple[bytes, int]] = field(default_factory=deque)

    def take(self, limit: int) -> list[bytes]:
        """Put up to `limit` of the oldest entries on the wire and return them.

        Empty while a batch is in flight: one batch a stream at a time is what keeps the order of
        a stream when a batch is refused.
        """
        if self.in_flight:
            return []
        batch = [self.entries[i][0] for i in range(min(limit, len(self.entries)))]
        self.in_flight = len(batch)
        return batch

    def acknowledge(self, count: int) -> int:
        """Forget the `count` oldest entries; return when the first was appended, in ns."""
        first_ns = self.entries[0][1] if count else 0
        for _ in range(count):
            self.entries.popleft()
        self.in_flight = 0
        return first_ns


def _stream(kind: str, key: str) -> ExecStream:
    return ExecStream(kind, key, resp.xadd_encoder(key, tuple(STREAMS[kind].fields)))


class ExecLane:
    """Orders, fills, positions, account and funding: numbered, kept until acknowledged.

    `entries_max` bounds what is kept; an append beyond it asks `on_full`, which makes room (a
    backtest waits) or not (live), and raises LaneFull in the second case.
    """

    def __init__(
        self,
        names: Names,
        *,
        producer: str,
        entries_max: int,
        clock_ns: Callable[[], int],
    ) -> None:
        self.producer = producer
        self.entries_max = entries_max
        self.wake: Callable[[], None] = _nothing
        self.on_full: Callable[[], None] = _nothing
        self.on_entry: Callable[[str, tuple[str, ...]], None] | None = None
        self.streams = {kind: _stream(kind, names.key(kind)) for kind in EXEC_KINDS}
        self._clock_ns = clock_ns
        self._jseq = 0

    def append(self, entry: Entry) -> None:
        """Number the entry and keep it. Raises LaneFull when there is no room for it."""
        if self.backlog >= self.entries_max:
            self.on_full()
            if self.backlog >= self.entries_max:
                self.streams[entry.kind].seq += 1  # lost: readers see it as a gap
                self._jseq += 1
                raise LaneFull(
                    f"{self.entries_max} execution entries wait for Redis (exec.entries_max)"
                )
        stream = self.streams[entry.kind]
        seq, jseq = stream.seq + 1, self._jseq + 1
        tail = (self.producer, str(seq), str(jseq), str(contract.VERSION))
        values = entry.values + tail
        stream.entries.append((stream.encode(values), self._clock_ns()))
        stream.seq, self._jseq = seq, jseq  # not before: an entry that cannot be encoded has none
        self.wake()
        if self.on_entry is not None:
            self.on_entry(entry.kind, values)

    def reset(self) -> None:
        """Take everything off the wire: the connection is gone, what was unconfirmed goes again."""
        for stream in self.streams.values():
            stream.in_flight = 0

    @property
    def backlog(self) -> int:
        """Entries that Redis has not confirmed."""
        return sum([len(stream.entries) for stream in self.streams.values()])

    @property
    def in_flight(self) -> int:
        """Entries on the wire."""
        return sum([stream.in_flight for stream in self.streams.values()])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to 256 market entries of one kind, encoded, on their way."""

    channel: "Channel"
    events: Sequence[Any]
    data: bytes
    opened_ns: int


class Channel:
    """One kind of market event, waiting as the source gave it; encoded only when it leaves.

    `encode` turns events into the bytes of as many commands, and raises when one of them is bad;
    `stream_of` names the stream of an event. A `conflates` channel keeps the latest event of each
    stream when it is full; another drops its oldest half.
    """

    def __init__(
        self,
        kind: str,
        *,
        encode: Callable[[Sequence[Any]], bytes],
        stream_of: Callable[[Any], Hashable],
        conflates: bool,
    ) -> None:
        if kind not in STREAMS:
            raise ValueError(f"{kind!r} is not a stream kind")
        self.kind = kind
        self.encode = encode
        self.stream_of = stream_of
        self.conflates = conflates
        self.pending: deque[Any] = deque()

    def shed(self, entries_max: int) -> tuple[int, int]:
        """Make room; return how many events were conflated and how many dropped.

        Leaves at most half of `entries_max`, so that the cost is spread over as many appends.
        """
        conflated = self._conflate() if self.conflates else 0
        dropped = max(0, len(self.pending) - entries_max // 2)
        for _ in range(dropped):
            self.pending.popleft()
        return conflated, dropped

    def _conflate(self) -> int:
        before = len(self.pending)
        latest: dict[Hashable, Any] = {}
        for event in self.pending:
            try:
                stream = self.stream_of(event)
            except Exception:  # noqa: BLE001 - refused by name when it is encoded, not here
                stream = object()
            latest.pop(stream, None)  # the kept event stands where the latest stood
            latest[stream] = event
        self.pending.clear()
        self.pending.extend(latest.values())
        return before - len(latest)


class MarketLane:
    """Quotes, trades, bars, mark prices and funding rates: bounded, never blocks the bus.

    `entries_max` is the bound of each channel. `on_full` answers when it is reached: it sheds, or,
    in a backtest, waits for room.
    """

    def __init__(self, *, entries_max: int, clock_ns: Callable[[], int]) -> None:
        self.entries_max = entries_max
        self.channels: list[Channel] = []
        self.idle = True
        self.opened_ns = 0
        self._turn = -1
        self.wake: Callable[[], None] = _nothing
        self.on_full: Callable[[Channel], None] = _nothing_with
        self.on_refused: Callable[[Channel, Any, Refused | Exception], None] = _nothing_with
        self._clock_ns = clock_ns

    def open(self, channel: Channel) -> Callable[[Any], None]:
        """Add a channel; return the function that appends an event to it.

        It runs in the trading loop for every market event, so it is a closure over local names:
        an append, a flag, and once per loop turn a wake.
        """
        self.channels.append(channel)
        pending, append, entries_max = channel.pending, channel.pending.append, self.entries_max

        def offer(event: Any) -> None:
            append(event)
            if self.idle:
                self._arm()
            elif len(pending) > entries_max:
                self.on_full(channel)

        return offer

    def _arm(self) -> None:
        self.idle = False
        if not self.opened_ns:
            self.opened_ns = self._clock_ns()
        self.wake()

    def take(self) -> Chunk | None:
        """Return the next encoded chunk, None when nothing waits.

        Bad events are left out of it: it may be empty, and still was a chunk's work.
        """
        while True:
            chunk = self._next()
            if chunk is not None:
                return chunk
            # Idle first, then look again: an event appended in between saw the lane busy and
            # did not wake anybody.
            self.idle = True
            if not self.backlog:
                self.opened_ns = 0
                return None
            self.idle = False

    def _next(self) -> Chunk | None:
        for _ in self.channels:
            # Each kind in its turn: a flood of quotes must not keep the trades waiting.
            self._turn = (self._turn + 1) % len(self.channels)
            channel = self.channels[self._turn]
            pending = channel.pending
            if pending:
                opened_ns = self.opened_ns or self._clock_ns()
                events = [pending.popleft() for _ in range(min(len(pending), CHUNK_ENTRIES_MAX))]
                events, data = self._encode(channel, events)
                self.opened_ns = self._clock_ns()
                return Chunk(channel, events, data, opened_ns)
        return None

    def _encode(self, channel: Channel, events: list[Any]) -> tuple[list[Any], bytes]:
        try:
            return events, channel.encode(events)
        except Exception:  # noqa: BLE001 - a bad event must not take its chunk with it
            return self._encode_singly(channel, events)

    def _encode_singly(self, channel: Channel, events: list[Any]) -> tuple[list[Any], bytes]:
        good: list[Any] = []
        data: list[bytes] = []
        for event in events:
            try:
                data.append(channel.encode([event]))
            except Exception as error:  # noqa: BLE001 - any fault of one event is counted
                self.on_refused(channel, event, error)
            else:
                good.append(event)
        return good, b"".join(data)

    def put_back(self, chunks: Sequence[Chunk]) -> None:
        """Put unacknowledged chunks, oldest first, back in front of what waits."""
        for chunk in reversed(chunks):
            chunk.channel.pending.extendleft(reversed(chunk.events))

    @property
    def backlog(self) -> int:
        """Events that wait to be sent."""
        return sum([len(channel.pending) for channel in self.channels])


def _nothing() -> None:
    """Do nothing: a lane that nobody publishes yet."""


def _nothing_with(*_: object) -> None:
    """Do nothing: a lane that nobody publishes yet."""

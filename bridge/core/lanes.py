"""The two queues between the tap and the publisher.

`ExecLane` keeps everything until Redis has confirmed it. `MarketLane` is bounded and may lose:
quotes conflate, the rest drops its oldest, and every loss is counted. Neither blocks, reads a clock
or knows what an event is.

In a backtest the tap appends from the engine's thread while the publisher takes in its own: both
lanes rely on nothing but the atomicity of `deque.append` and `deque.popleft`, and on the order of
"append, then wake" against "disarm, then take".
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS, Entry, Names

CHUNK_ENTRIES_MAX: Final = 256
_ALONE: Final = nullcontext()


class CannotRecord(Exception):
    """An execution event could not be kept: trading has to halt, the process to end."""


class LaneFull(CannotRecord):
    """The exec lane holds all it may, and Redis confirms nothing."""


class Refused(Exception):
    """An event that cannot be translated. `reason` is one of the metric's closed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Kept(NamedTuple):
    """An exec entry as it is sent, `appended_ns` of the lane's clock, 0 when it is not known.

    `data` are a number of RESP bulk strings, one behind the other: field names and values in turn.
    `width` is how many, without those of the tail.
    """

    seq: int
    jseq: int
    width: int
    data: bytes
    appended_ns: int


def tail_encoder(producer: str, version: int) -> Callable[[int, int], bytes]:
    """Return the function that turns seq and jseq into the tail's names and values."""
    first, second, third, fourth = (resp.bulk(name) for name in contract.TAIL)
    lead = f"{first}{resp.bulk(producer)}{second}"
    end = f"{fourth}{resp.bulk(str(version))}"

    def encode(seq: int, jseq: int) -> bytes:
        first, second = str(seq), str(jseq)
        numbers = f"${len(first)}\r\n{first}\r\n{third}${len(second)}\r\n{second}\r\n"
        return f"{lead}{numbers}{end}".encode()

    return encode


class ExecStream:
    """One exec stream: the numbers given, and the newest entries, as far as memory holds them.

    `seq` is the last number given, `sent` the highest that may have reached Redis, `acknowledged`
    the last that is known to be there. `window` holds numbers that rise, up to the last one given;
    it may begin behind what Redis has confirmed when the journal holds the rest.
    """

    def __init__(
        self, kind: str, key: str, numbering: AbstractContextManager[object] = _ALONE
    ) -> None:
        self.numbering = numbering
        self.kind = kind
        self.key = key
        self.index = EXEC_KINDS.index(kind)
        self.names = STREAMS[kind].names
        self.encode = resp.pairs_encoder(self.names)
        self.seq = 0
        self.sent = 0
        self.acknowledged = 0
        self.window: deque[Kept] = deque()

    def take(self, seq: int, entries_max: int, upto_jseq: int | None) -> list[Kept]:
        """Return up to `entries_max` entries that follow each other, the first at `seq` or behind.

        None beyond `upto_jseq` (None: no such bound). They stay until they are acknowledged.
        """
        window = self.window
        taken: list[Kept] = []
        with self.numbering:
            for place in range(self._place(seq), len(window)):
                kept = window[place]
                if upto_jseq is not None and kept.jseq > upto_jseq:
                    break
                if len(taken) == entries_max or (taken and kept.seq != taken[-1].seq + 1):
                    break
                taken.append(kept)
        return taken

    def holds(self, seq: int) -> bool:
        """Return whether memory reaches back to `seq`."""
        with self.numbering:
            return bool(self.window) and self.window[0].seq <= seq

    def acknowledge(self, seq: int) -> None:
        """Forget what Redis has confirmed, all up to `seq`; a lower number than before is noted."""
        self.acknowledged = seq
        window = self.window
        with self.numbering:
            while window and window[0].seq <= seq:
                window.popleft()

    def _place(self, seq: int) -> int:
        """Return where `seq`, or the first number behind it, stands: seldom far from the guess."""
        window = self.window
        if not window:
            return 0
        place = min(max(0, seq - window[0].seq), len(window))
        while place and window[place - 1].seq >= seq:
            place -= 1
        return place


# record(kind, seq, jseq, width, once, payload)
type Record = Callable[[int, int, int, int, bytes, bytes], None]


class Known(Protocol):
    """A set of identities of entries (`Entry.once`)."""

    def __contains__(self, once: bytes) -> bool: ...
    def add(self, once: bytes) -> None: ...


class Held(NamedTuple):
    """What is recorded of the present producer: by kind the first and the last seq, the last jseq.

    A last that is below its first: nothing.
    """

    producer: str
    seqs: Mapping[str, tuple[int, int]]
    jseq: int


class ExecLane:
    """Orders, fills, positions, account, funding and control: numbered, kept until acknowledged.

    `record` writes an entry down before it is kept; what it raises the caller gets, and the entry
    has no number then. What is `known` already is not kept. With `spills` memory keeps the newest
    `entries_max` of each stream, and the rest is read back from where it was recorded. Without, it
    keeps all, and an append beyond `entries_max` asks `on_full`, which makes room (a backtest
    waits) or not (live); then LaneFull is raised. `numbering` is held while a number is given: a
    lock where several threads append, as Nautilus does, whose timers have a thread of their own.
    """

    def __init__(
        self,
        names: Names,
        *,
        producer: str,
        entries_max: int,
        clock_ns: Callable[[], int],
        record: Record | None = None,
        known: Known | None = None,
        spills: bool = False,
        numbering: AbstractContextManager[object] = _ALONE,
    ) -> None:
        self.entries_max = entries_max
        self.wake: Callable[[], None] = _nothing
        self.on_full: Callable[[], None] = _nothing
        self.on_entry: Callable[[str, tuple[str, ...]], None] | None = None
        self.on_repeat: Callable[[], None] = _nothing
        # Told, on the publisher's loop, why nothing more can be kept: trading has to end.
        self.on_failure: Callable[[Exception], None] = _nothing_with
        self.streams = {kind: ExecStream(kind, names.key(kind), numbering) for kind in EXEC_KINDS}
        self._clock_ns = clock_ns
        self._record = record
        self._known = known
        self._spills = spills
        self.numbering = numbering
        self.begin(Held(producer, {}, 0))

    def begin(self, held: Held) -> None:
        """Go on numbering behind what is recorded; forget what is in memory."""
        self.producer = held.producer
        self._tail = tail_encoder(held.producer, contract.VERSION)
        self._jseq = held.jseq
        for kind, stream in self.streams.items():
            first, stream.seq = held.seqs.get(kind, (1, 0))
            stream.acknowledged = first - 1
            stream.sent = 0
            stream.window.clear()

    def append(self, entry: Entry) -> None:
        """Number the entry and keep it, once. Raises CannotRecord when it cannot be kept."""
        if self.is_full:
            self.on_full()
            if self.is_full:
                with self.numbering:
                    self.streams[entry.kind].seq += 1  # lost: readers see it as a gap
                    self._jseq += 1
                raise LaneFull(
                    f"{self.entries_max} execution entries wait for Redis (exec.entries_max)"
                )
        self.append_always(entry)

    def append_always(self, entry: Entry) -> None:
        """As `append`, room or not. Raises what `record` raises."""
        stream = self.streams[entry.kind]
        payload = stream.encode(entry.values)
        width = 2 * len(entry.values)
        with self.numbering:
            if entry.once and self._known is not None and entry.once in self._known:
                self.on_repeat()
                return
            seq, jseq = stream.seq + 1, self._jseq + 1
            if self._record is not None:
                self._record(stream.index, seq, jseq, width, entry.once, payload)
            data = payload + self._tail(seq, jseq)
            if self._spills and len(stream.window) >= self.entries_max:
                stream.window.popleft()
            stream.window.append(Kept(seq, jseq, width, data, self._clock_ns()))
            stream.seq, self._jseq = seq, jseq
            if entry.once and self._known is not None:
                self._known.add(entry.once)
        self.wake()
        if self.on_entry is not None:
            tail = (self.producer, str(seq), str(jseq), str(contract.VERSION))
            self.on_entry(entry.kind, entry.values + tail)

    @property
    def is_full(self) -> bool:
        """Whether memory holds as much as it may, and nothing of it can go."""
        if self._spills:
            return False
        return sum([len(stream.window) for stream in self.streams.values()]) >= self.entries_max

    @property
    def jseq(self) -> int:
        """The last number given across all streams."""
        return self._jseq

    @property
    def backlog(self) -> int:
        """Entries that Redis has not confirmed."""
        if self._record is None:
            return sum([len(stream.window) for stream in self.streams.values()])
        return sum([stream.seq - stream.acknowledged for stream in self.streams.values()])


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

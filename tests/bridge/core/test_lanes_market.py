"""bridge/core/lanes.py: the market lane counts what it loses."""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.lanes import CHUNK_ENTRIES_MAX, Channel, Chunk, MarketLane

# A market event of these tests: (stream, number); a number of None is a bad event.
type Event = tuple[str, int | None]


def encode(events: Sequence[Event]) -> bytes:
    if any(number is None for _, number in events):
        raise ValueError("a bad event")
    return b"".join([f"{stream}={number};".encode() for stream, number in events])


def stream_of(event: Event) -> str:
    if event[0] == "unknown":
        raise LookupError("no such instrument")
    return event[0]


def market_lane(entries_max: int = 10) -> MarketLane:
    return MarketLane(entries_max=entries_max, clock_ns=lambda: 1)


def channel(kind: str = "trades", *, conflates: bool = False) -> Channel:
    return Channel(kind, encode=encode, stream_of=stream_of, conflates=conflates)


def take_all(lane: MarketLane) -> list[Event]:
    chunks: list[Chunk] = []
    while (chunk := lane.take()) is not None:
        chunks.append(chunk)
    return [event for chunk in chunks for event in chunk.events]


def test_an_unknown_kind_is_no_channel() -> None:
    """A channel for a stream that the contract does not have is a programming error."""
    with pytest.raises(ValueError, match="not a stream kind"):
        channel("candles")


@given(
    events=st.lists(st.tuples(st.sampled_from("abc"), st.integers()), max_size=60),
    entries_max=st.integers(6, 20),
)
def test_conflation_keeps_the_latest(events: list[Event], entries_max: int) -> None:
    """The latest event of each stream stays, in the order in which the latest ones came."""
    conflating = channel("quotes", conflates=True)
    conflating.pending.extend(events)

    conflated, dropped = conflating.shed(entries_max)

    latest = {stream: index for index, (stream, _) in enumerate(events)}
    assert list(conflating.pending) == [events[index] for index in sorted(latest.values())]
    assert (conflated, dropped) == (len(events) - len(latest), 0)


@given(count=st.integers(0, 60), entries_max=st.integers(2, 20))
def test_others_drop_the_oldest(count: int, entries_max: int) -> None:
    """A channel that does not conflate keeps its newest half bound."""
    dropping = channel()
    dropping.pending.extend(("s", number) for number in range(count))

    assert dropping.shed(entries_max) == (0, max(0, count - entries_max // 2))
    assert [number for _, number in dropping.pending] == list(range(count))[-(entries_max // 2) :]


def test_more_streams_than_room_drop_the_oldest() -> None:
    """Conflation alone cannot always make room: then the longest silent streams go."""
    conflating = channel("quotes", conflates=True)
    conflating.pending.extend((str(number), number) for number in range(10))

    assert conflating.shed(6) == (0, 7)
    assert list(conflating.pending) == [("7", 7), ("8", 8), ("9", 9)]


def test_conflation_survives_a_bad_event() -> None:
    """An event whose stream cannot be told does not raise into the trading loop: it stays, and is
    refused when its turn comes."""
    lane = market_lane(entries_max=4)
    quotes = channel("quotes", conflates=True)
    offer = lane.open(quotes)
    lane.on_full = lambda full: full.shed(4)

    for event in [("unknown", None), *(("a", number) for number in range(9))]:
        offer(event)

    assert quotes.pending[-1] == ("a", 8)
    assert len(quotes.pending) <= 5


def test_a_bad_event_leaves_its_chunk_alone() -> None:
    """Only the bad events are left out, each is reported with its error, the rest goes on."""
    lane, refused = market_lane(), []
    offer = lane.open(channel())
    lane.on_refused = lambda channel, event, error: refused.append((channel.kind, event, error))
    for number in (1, None, 2, None, 3):
        offer(("s", number))

    chunk = lane.take()

    assert chunk is not None
    assert (chunk.events, chunk.data) == ([("s", 1), ("s", 2), ("s", 3)], b"s=1;s=2;s=3;")
    assert [(kind, event) for kind, event, _ in refused] == [("trades", ("s", None))] * 2
    assert {str(error) for _, _, error in refused} == {"a bad event"}


def test_only_bad_events_are_no_chunk() -> None:
    """A chunk of nothing is never sent: what waits behind it is."""
    lane = market_lane(entries_max=1000)
    offer = lane.open(channel())
    for number in [None] * CHUNK_ENTRIES_MAX + [7]:
        offer(("s", number))

    assert take_all(lane) == [("s", 7)]


def test_chunks_are_bounded() -> None:
    """A chunk holds at most 256 events, of one kind."""
    lane = market_lane(entries_max=1000)
    trade, quote = lane.open(channel()), lane.open(channel("quotes"))
    for number in range(300):
        trade(("t", number))
        quote(("q", number))

    chunks = [lane.take() for _ in range(5)]

    assert chunks.pop() is None
    sizes = Counter((chunk.channel.kind, len(chunk.events)) for chunk in chunks if chunk)
    assert sizes == Counter(itertools.product(("trades", "quotes"), (256, 44)))


def test_put_back_restores_the_order() -> None:
    """Unconfirmed chunks of several channels stand in front of what came since, in order."""
    lane = market_lane(entries_max=2000)
    trade, quote = lane.open(channel()), lane.open(channel("quotes"))
    for number in range(600):
        trade(("t", number))
        quote(("q", number))
    chunks = [chunk for chunk in (lane.take() for _ in range(4)) if chunk]
    trade(("t", 600))
    quote(("q", 600))

    lane.put_back(chunks)

    events = take_all(lane)
    for stream in "tq":
        assert [number for name, number in events if name == stream] == list(range(601))


def test_one_wake_until_idle() -> None:
    """The first event wakes; later ones do not until everything was taken."""
    lane, wakes = market_lane(entries_max=1000), []
    lane.wake = lambda: wakes.append(lane.backlog)
    offer = lane.open(channel())

    for number in range(3):
        offer(("s", number))
    assert wakes == [1]
    take_all(lane)
    offer(("s", 3))

    assert wakes == [1, 1]


def test_an_event_between_look_and_idle_is_taken() -> None:
    """An event that is appended just before the lane turns idle woke nobody: it is taken now."""

    class Late(deque[Event]):
        """Another thread appends right behind the look that found nothing."""

        def __bool__(self) -> bool:
            found = len(self) > 0
            if not found and late:
                offer(late.pop())
            return found

    lane, trades, late = market_lane(), channel(), [("s", 2)]
    trades.pending = Late()
    offer = lane.open(trades)
    offer(("s", 1))

    assert take_all(lane) == [("s", 1), ("s", 2)]


@pytest.mark.parametrize("round_", range(3))
def test_no_wake_is_lost_between_threads(round_: int) -> None:
    """One thread appends while another takes only when woken: everything comes, in order."""
    events_max, lane = 20_000, market_lane(entries_max=1_000_000)
    woken, taken = threading.Semaphore(0), []
    lane.wake = woken.release
    offer = lane.open(channel())

    def produce() -> None:
        for number in range(events_max):
            offer(("s", number))

    producer = threading.Thread(target=produce)
    producer.start()
    while len(taken) < events_max:
        assert woken.acquire(timeout=10), "asleep although events wait"
        taken += take_all(lane)
    producer.join()

    assert [number for _, number in taken] == list(range(events_max))
    assert lane.idle


class MarketLaneMachine(RuleBasedStateMachine):
    """Offer, take, confirm, lose: nothing disappears uncounted, whatever the order."""

    ENTRIES_MAX = 8

    def __init__(self) -> None:
        super().__init__()
        self.lane = market_lane(self.ENTRIES_MAX)
        self.quotes, self.trades = channel("quotes", conflates=True), channel()
        self.offers: dict[str, Callable[[Event], None]] = {
            "quotes": self.lane.open(self.quotes),
            "trades": self.lane.open(self.trades),
        }
        self.lane.on_full = self.shed
        self.lane.on_refused = lambda channel, event, error: self.lose("refused", 1)
        self.lane.wake = self.wake
        self.numbers, self.counts = itertools.count(), Counter[str]()
        self.sent: deque[Chunk] = deque()
        self.confirmed: list[tuple[str, Event]] = []
        self.woken = False

    def wake(self) -> None:
        self.woken = True

    def lose(self, reason: str, count: int) -> None:
        self.counts[reason] += count

    def shed(self, full: Channel) -> None:
        conflated, dropped = full.shed(self.ENTRIES_MAX)
        self.lose("conflated", conflated)
        self.lose("dropped", dropped)
        assert not (conflated and full is self.trades)

    @rule(
        kind=st.sampled_from(["quotes", "trades"]),
        stream=st.sampled_from("abcdefg"),
        bad=st.sampled_from([False] * 6 + [True]),
        count=st.integers(1, 12),
    )
    def offer(self, kind: str, stream: str, bad: bool, count: int) -> None:
        for _ in range(count):
            number = next(self.numbers)
            self.counts["offered"] += 1
            self.offers[kind]((stream, None if bad else number))

    @rule()
    def take(self) -> None:
        self.woken = False
        chunk = self.lane.take()
        if chunk is not None:
            self.sent.append(chunk)
            self.woken = True  # the publisher goes on until there is nothing

    @precondition(lambda self: self.sent)
    @rule()
    def confirm(self) -> None:
        chunk = self.sent.popleft()
        self.confirmed += [(chunk.channel.kind, event) for event in chunk.events]

    @rule()
    def lose_connection(self) -> None:
        self.lane.put_back(self.sent)
        self.sent.clear()
        self.woken = True  # the next connection wakes the publisher

    @invariant()
    def counts_add_up(self) -> None:
        out = sum(len(chunk.events) for chunk in self.sent)
        lost = self.counts["conflated"] + self.counts["dropped"] + self.counts["refused"]
        kept = self.lane.backlog + out + len(self.confirmed)
        assert self.counts["offered"] == kept + lost

    @invariant()
    def order_is_kept(self) -> None:
        chunks = [(chunk.channel.kind, event) for chunk in self.sent for event in chunk.events]
        left = [(each.kind, event) for each in self.lane.channels for event in each.pending]
        for kind in self.offers:
            numbers = [
                event[1]
                for where, event in self.confirmed + chunks + left
                if where == kind and event[1] is not None
            ]
            assert numbers == sorted(numbers)

    @invariant()
    def who_waits_is_known(self) -> None:
        assert self.woken or not self.lane.backlog, "events wait and nobody was woken"

    @precondition(lambda self: not self.sent)
    @rule(kind=st.sampled_from(["quotes", "trades"]))
    def bound_holds(self, kind: str) -> None:
        self.offer(kind, "a", False, 2)
        pending = (self.quotes if kind == "quotes" else self.trades).pending
        assert len(pending) <= self.ENTRIES_MAX + 1


MarketLaneMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
test_market_lane_accounts_for_everything = MarketLaneMachine.TestCase

"""bridge/core/lanes.py: the exec lane numbers everything once and forgets nothing too early."""

import itertools
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS, Entry, default_names
from bridge.core.lanes import CannotRecord, ExecLane, ExecStream, Held, Kept, LaneFull, Record

KINDS = st.sampled_from(EXEC_KINDS)


def exec_lane(
    entries_max: int = 1000,
    *,
    record: Record | None = None,
    known: set[bytes] | None = None,
    spills: bool = False,
    numbering: AbstractContextManager[object] | None = None,
) -> ExecLane:
    """Return an empty lane whose clock ticks at each look."""
    clock = itertools.count(1)
    return ExecLane(
        default_names("p:"),
        producer="P.1",
        entries_max=entries_max,
        clock_ns=lambda: next(clock),
        record=record,
        known=known,
        spills=spills,
        numbering=nullcontext() if numbering is None else numbering,
    )


def entry(kind: str, text: str = "x", *, once: str = "") -> Entry:
    return contract.entry(kind, dict.fromkeys(STREAMS[kind].names, text), once=once)


def fail(*_: object) -> None:
    raise CannotRecord("the disk is full")


def waiting(lane: ExecLane, kind: str) -> list[dict[str, str]]:
    return [resp.pairs(kept.data) for kept in lane.streams[kind].window]


def seqs(kept: Iterable[Kept]) -> list[int]:
    return [each.seq for each in kept]


@given(kinds=st.lists(KINDS, max_size=40))
def test_numbers_are_dense(kinds: list[str]) -> None:
    """seq counts each stream from 1, jseq all of them, whatever the mixture."""
    lane = exec_lane()

    for kind in kinds:
        lane.append(entry(kind))

    jseqs = []
    for kind in EXEC_KINDS:
        rows = waiting(lane, kind)
        assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
        assert {row["producer"] for row in rows} <= {"P.1"}
        jseqs += [(int(row["jseq"]), kind) for row in rows]
    assert sorted(jseqs) == list(enumerate(kinds, 1))
    assert lane.jseq == len(kinds)


@pytest.mark.parametrize("kind", EXEC_KINDS)
def test_entry_is_encoded_in_wire_order(kind: str) -> None:
    """An entry is kept as all fields of the contract, in their order, with the tail behind them."""
    lane = exec_lane()

    lane.append(Entry(kind, tuple(STREAMS[kind].names)))

    (kept,) = lane.streams[kind].window
    tail = {"producer": "P.1", "seq": "1", "jseq": "1", "v": "1"}
    fields = {name: name for name in STREAMS[kind].names}
    assert list(resp.pairs(kept.data).items()) == [*fields.items(), *tail.items()]
    assert kept.width == 2 * len(fields)
    assert lane.streams[kind].key == f"p:{STREAMS[kind].template}"


@pytest.mark.parametrize(
    "bad",
    [Entry("mark", ()), Entry("fills", ("x",)), entry("fills", "\ud800")],
    ids=["unknown kind", "too few values", "no Unicode"],
)
def test_a_refused_entry_takes_no_number(bad: Entry) -> None:
    """An entry that cannot be encoded leaves no gap: the next one has the next number."""
    lane = exec_lane()
    lane.append(entry("fills"))

    with pytest.raises((KeyError, ValueError)):
        lane.append(bad)
    lane.append(entry("fills"))

    assert [(row["seq"], row["jseq"]) for row in waiting(lane, "fills")] == [("1", "1"), ("2", "2")]


def test_an_entry_is_recorded_before_it_is_kept() -> None:
    """`record` gets its numbers and its fields without the tail, and memory does not have it."""
    recorded = []

    def record(kind: int, seq: int, jseq: int, width: int, once: bytes, payload: bytes) -> None:
        kept = len(lane.streams["fills"].window)
        recorded.append((kind, seq, jseq, width, once, payload, kept))

    lane = exec_lane(record=record)
    lane.append(entry("orders"))
    fill = entry("fills", once="f")

    lane.append(fill)

    payload = resp.pairs_encoder(STREAMS["fills"].names)(fill.values)
    width = 2 * len(fill.values)
    assert recorded[1:] == [(1, 1, 2, width, contract.identity("f"), payload, 0)]
    assert lane.streams["fills"].window[0].data.startswith(payload)


def test_what_is_not_recorded_has_no_number() -> None:
    """An entry that could not be written down is not kept, not known, and leaves no gap."""
    known: set[bytes] = set()
    lane = exec_lane(record=fail, known=known)

    with pytest.raises(CannotRecord, match="the disk is full"):
        lane.append(entry("fills", once="f"))

    assert (lane.jseq, lane.streams["fills"].seq, lane.backlog) == (0, 0, 0)
    assert not known and not lane.streams["fills"].window


def test_a_number_is_given_under_the_lock() -> None:
    """`numbering` is held while an entry is recorded, and not when others are told of it."""
    lock, held = threading.Lock(), []
    lane = exec_lane(record=lambda *_: held.append(lock.locked()), numbering=lock)
    lane.wake = lambda: held.append(lock.locked())
    lane.on_entry = lambda *_: held.append(lock.locked())

    lane.append(entry("orders"))

    assert held == [True, False, False]


def test_a_repeated_entry_is_kept_once() -> None:
    """What was kept before, by its identity, takes no number and is told to `on_repeat` only."""
    lane, repeats = exec_lane(known=set()), []
    lane.on_repeat = lambda: repeats.append(lane.jseq)

    for once in ("a", "a", "b", "", "", "a"):
        lane.append(entry("fills", once, once=once))

    assert [row["price"] for row in waiting(lane, "fills")] == ["a", "b", "", ""]
    assert repeats == [1, 4]


def test_without_an_index_every_report_is_kept() -> None:
    """A lane that knows nothing keeps an entry as often as it is told of it."""
    lane = exec_lane()

    for _ in range(2):
        lane.append(entry("fills", once="a"))

    assert [row["seq"] for row in waiting(lane, "fills")] == ["1", "2"]


def test_nothing_is_forgotten_before_it_is_acknowledged() -> None:
    """What was taken is taken again; what is acknowledged, and only that, is forgotten."""
    lane = exec_lane()
    for _ in range(5):
        lane.append(entry("orders"))
    stream = lane.streams["orders"]

    assert seqs(stream.take(1, 3, None)) == seqs(stream.take(1, 3, None)) == [1, 2, 3]
    assert lane.backlog == 5
    stream.acknowledge(3)

    assert (stream.acknowledged, lane.backlog) == (3, 2)
    assert seqs(stream.take(1, 9, None)) == [4, 5]


def test_an_acknowledgement_may_go_back() -> None:
    """A Redis that knows less than before is believed; what is forgotten does not come back."""
    lane = exec_lane(record=lambda *_: None)
    for _ in range(5):
        lane.append(entry("orders"))
    stream = lane.streams["orders"]
    stream.acknowledge(4)

    stream.acknowledge(1)

    assert (stream.acknowledged, lane.backlog) == (1, 4)
    assert seqs(stream.take(2, 9, None)) == [5]


@given(
    steps=st.lists(st.integers(1, 3), max_size=12),
    first=st.integers(1, 5),
    seq=st.integers(1, 40),
    entries_max=st.integers(1, 6),
    upto=st.none() | st.integers(0, 40),
)
def test_what_is_taken_follows_each_other(
    steps: list[int], first: int, seq: int, entries_max: int, upto: int | None
) -> None:
    """From the number asked for, or the first behind it, up to a gap and both bounds."""
    stream = ExecStream("orders", "exec:orders")
    numbers = list(itertools.accumulate(steps, initial=first))
    stream.window.extend(Kept(number, 2 * number, 2, b"", 0) for number in numbers)

    taken = seqs(stream.take(seq, entries_max, upto))

    wanted = [number for number in numbers if number >= seq]
    dense = [number for place, number in enumerate(wanted) if number == wanted[0] + place]
    allowed = [number for number in dense if upto is None or 2 * number <= upto]
    assert taken == allowed[:entries_max]


def test_a_full_lane_refuses() -> None:
    """At the limit over all streams an append raises; the loss is a gap in seq and jseq."""
    lane = exec_lane(entries_max=2)
    lane.append(entry("orders"))
    lane.append(entry("fills"))

    with pytest.raises(LaneFull, match=r"2 execution entries .*exec\.entries_max"):
        lane.append(entry("orders"))
    lane.streams["fills"].acknowledge(1)
    lane.append(entry("orders"))

    numbers = [(row["seq"], row["jseq"]) for row in waiting(lane, "orders")]
    assert numbers == [("1", "1"), ("3", "4")]
    assert issubclass(LaneFull, CannotRecord)


def test_what_must_be_told_needs_no_room() -> None:
    """`append_always` keeps an entry in a full lane, without a gap."""
    lane = exec_lane(entries_max=1)
    lane.append(entry("orders"))

    lane.append_always(entry("control"))

    assert lane.is_full
    assert [(row["seq"], row["jseq"]) for row in waiting(lane, "control")] == [("1", "2")]


def test_on_full_may_make_room() -> None:
    """An append goes on when `on_full` has waited for room."""
    lane = exec_lane(entries_max=1)
    lane.on_full = lambda: lane.streams["orders"].acknowledge(1)
    lane.append(entry("orders"))

    lane.append(entry("orders"))

    assert [row["seq"] for row in waiting(lane, "orders")] == ["2"]


def test_a_lane_that_spills_is_never_full() -> None:
    """Memory keeps the newest entries of each stream; the backlog counts the others as well."""
    lane = exec_lane(entries_max=3, record=lambda *_: None, spills=True)

    for _ in range(5):
        lane.append(entry("orders"))
    lane.append(entry("fills"))

    assert [row["seq"] for row in waiting(lane, "orders")] == ["3", "4", "5"]
    assert [row["seq"] for row in waiting(lane, "fills")] == ["1"]
    assert not lane.is_full
    assert lane.backlog == 6


def test_begin_goes_on_behind_what_is_recorded() -> None:
    """Numbers go on under the producer given, and what memory held is forgotten."""
    lane = exec_lane(record=lambda *_: None)
    lane.append(entry("orders"))

    lane.begin(Held("Q.2", {"orders": (4, 9), "fills": (1, 0)}, jseq=12))
    assert lane.backlog == 6, "4 to 9, as far as anybody knows"
    for kind in ("orders", "fills", "account"):
        lane.append(entry(kind))

    rows = [waiting(lane, kind)[0] for kind in ("orders", "fills", "account")]
    assert [(row["producer"], row["seq"], row["jseq"]) for row in rows] == [
        ("Q.2", "10", "13"),
        ("Q.2", "1", "14"),
        ("Q.2", "1", "15"),
    ]


def test_every_append_wakes_and_tells() -> None:
    """The publisher is woken for each entry; `on_entry` gets its values with the tail."""
    lane, told, wakes = exec_lane(), [], []
    lane.on_entry = lambda kind, values: told.append(contract.to_dict(kind, values))
    lane.wake = lambda: wakes.append(lane.backlog)

    lane.append(entry("fills", "a"))
    lane.append(entry("orders", "b"))

    assert wakes == [1, 2], "woken when the entry is already there"
    assert told == [waiting(lane, "fills")[0], waiting(lane, "orders")[0]]

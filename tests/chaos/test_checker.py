"""The checker finds what is planted, and nothing else."""

import random
from collections.abc import Callable, Sequence

import pytest

from tests.chaos import checker
from tests.chaos.checker import Verdict, check
from tests.chaos.matching import Streams
from tests.chaos.record import FIELDS, Event, Found, Values

PRODUCER = "T.0a1b2c3d.1"
FIGURES = ("lost", "doubled", "reordered", "gaps", "invented")


def values(kind: str, **given: str) -> Values:
    """Return compared values of an entry, empty but for those given."""
    return tuple([given.get(name, "") for name in FIELDS[kind]])


def order(number: int, status: str = "accepted", life: int = 0) -> Event:
    """Return an event of an order of its own."""
    told = values(
        "orders",
        event_id=f"e{number}",
        status=status,
        cl_ord_id=f"O-{number}",
        venue_order_id=f"V-{number}",
        account="A-1",
    )
    return Event(life, f"e{number}", (("orders", told),))


def fill(number: int, event: str = "", life: int = 0) -> Event:
    """Return a fill: an entry of two streams. `event` is its id where it is told again."""
    event_id = event or f"f{number}"
    same = {"venue_order_id": f"V-{number}", "account": "A-1", "event_id": event_id}
    entries = (
        ("fills", values("fills", trade_id=f"T-{number}", **same)),
        ("orders", values("orders", status="filled", **same)),
    )
    return Event(life, event_id, entries)


def position(number: int, qty: str = "1", life: int = 0) -> Event:
    """Return a position's change; its entry has no id of its own."""
    return Event(life, f"p{number}", (("positions", values("positions", ts_ns="7", qty=qty)),))


def shipped(events: Sequence[Event], producer: str = PRODUCER) -> dict[str, list[Found]]:
    """Return the streams as they must be."""
    streams: dict[str, list[Found]] = {kind: [] for kind in FIELDS}
    for jseq, (kind, told) in enumerate([e for event in events for e in event.entries], start=1):
        streams[kind].append(Found(producer, len(streams[kind]) + 1, jseq, told))
    return streams


def mixed() -> list[Event]:
    """Return a small record of everything; two positions are alike."""
    events = [order(1), fill(2), position(3), order(4, "canceled"), position(5), position(6, "2")]
    return [*events, *[order(number) for number in range(10, 30)]]


def figures(verdict: Verdict) -> dict[str, int]:
    """Return what is wrong."""
    return {name: getattr(verdict, name) for name in FIGURES if getattr(verdict, name)}


def test_nothing_is_wrong() -> None:
    """Streams that hold what was recorded, each once, in order, are clean."""
    verdict = check([mixed()], shipped(mixed()))
    assert verdict.is_clean
    assert (verdict.events, verdict.entries) == (26, 27)


def lose(streams: dict[str, list[Found]]) -> None:
    del streams["orders"][7]


def lose_the_last(streams: dict[str, list[Found]]) -> None:
    streams["orders"].pop()


def double(streams: dict[str, list[Found]]) -> None:
    streams["orders"].insert(9, streams["orders"][8])


def double_under_a_new_number(streams: dict[str, list[Found]]) -> None:
    streams["orders"].append(streams["orders"][8]._replace(seq=24, jseq=40))


def double_a_position(streams: dict[str, list[Found]]) -> None:
    streams["positions"].append(streams["positions"][0]._replace(seq=4, jseq=40))


def swap(streams: dict[str, list[Found]]) -> None:
    entries = streams["orders"]
    entries[5], entries[6] = entries[6], entries[5]


def swap_the_contents(streams: dict[str, list[Found]]) -> None:
    entries = streams["orders"]
    first, second = entries[5], entries[6]
    entries[5] = first._replace(values=second.values)
    entries[6] = second._replace(values=first.values)


def change(streams: dict[str, list[Found]]) -> None:
    entry = streams["orders"][5]
    streams["orders"][5] = entry._replace(values=(*entry.values[:-1], "another time"))


def invent(streams: dict[str, list[Found]]) -> None:
    streams["account"].append(Found(PRODUCER, 1, 12, values("account", total="1")))


def reuse_a_number(streams: dict[str, list[Found]]) -> None:
    streams["orders"][-1] = streams["orders"][-1]._replace(seq=22)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lose, {"lost": 1, "gaps": 1}),
        (lose_the_last, {"lost": 1}),
        (double, {"doubled": 1}),
        (double_under_a_new_number, {"doubled": 1}),
        (double_a_position, {"doubled": 1}),
        (swap, {"reordered": 1}),
        (swap_the_contents, {"reordered": 1}),
        (change, {"lost": 1, "invented": 1}),
        (invent, {"invented": 1}),
        (reuse_a_number, {"doubled": 1}),
    ],
)
def test_finds_what_is_planted(
    plant: Callable[[dict[str, list[Found]]], None], found: dict[str, int]
) -> None:
    """A loss, a double, a swap, a changed content, an entry of nobody: each is counted as such."""
    streams = shipped(mixed())
    plant(streams)
    verdict = check([mixed()], streams, in_hand_max=5)
    assert figures(verdict) == found
    assert verdict.notes


def test_counts_each_of_many() -> None:
    """As many as are planted are found, wherever they are."""
    chance = random.Random(20_261_120)
    events = [order(number) for number in range(1, 1_001)]
    for _ in range(20):
        entries = shipped(events)["orders"]
        gone = set(chance.sample(range(1_000), chance.randint(1, 50)))
        twice = set(chance.sample(range(1_000), chance.randint(1, 50))) - gone
        kept = [e for n, e in enumerate(entries) if n not in gone for _ in range(1 + (n in twice))]
        verdict = check([events], {"orders": kept})
        inner = {n for n in gone if n < kept[-1].seq}
        wanted = {"lost": len(gone), "doubled": len(twice), "gaps": len(inner)}
        assert figures(verdict) == {name: count for name, count in wanted.items() if count}


def test_works_without_numbers() -> None:
    """A writer that gives no numbers is judged by content alone."""
    streams = shipped(mixed(), producer="")
    streams = {kind: [e._replace(seq=0, jseq=0) for e in each] for kind, each in streams.items()}
    assert check([mixed()], streams).is_clean
    double(streams)
    lose_the_last(streams)
    assert figures(check([mixed()], streams)) == {"lost": 1, "doubled": 1}


# What a kill allows.


def killed(*unrecorded: Event) -> tuple[list[Event], Streams]:
    """Return a record of two lives, and streams that hold more between the two."""
    first, second = [order(1), order(2)], [order(5, life=1), order(6, life=1)]
    return [*first, *second], shipped([*first, *unrecorded, *second])


def test_the_event_in_hand_may_be_there() -> None:
    """A killed process leaves one event behind that is in the streams and not in the record."""
    for unrecorded in (order(3), fill(3), position(3)):
        record, streams = killed(unrecorded)
        verdict = check([record], streams, in_hand_max=1)
        assert verdict.is_clean
        assert verdict.in_hand == 1


def test_an_event_in_hand_may_be_like_another() -> None:
    """Two states of an account are alike, and a kill strikes behind the second."""
    first, second = [position(1), order(2)], [order(5, life=1), order(6, life=1)]
    streams = shipped([*first, position(3), *second])
    assert check([[*first, *second]], streams, in_hand_max=1).is_clean
    assert figures(check([[*first, *second]], streams)) == {"doubled": 1}
    streams = shipped([first[0], position(3), first[1], *second])
    assert figures(check([[*first, *second]], streams, in_hand_max=9)) == {"doubled": 1}


def test_nothing_is_in_hand_at_the_end() -> None:
    """The last process was ended as an operator would: what it emitted is in the record."""
    record = [order(1), order(2)]
    verdict = check([record], shipped([*record, order(3)]), in_hand_max=9)
    assert figures(verdict) == {"invented": 1}


def test_only_one_event_may_be_in_hand() -> None:
    """Two events between two lives are one too many; so is one without a kill."""
    record, streams = killed(order(3), order(4))
    assert figures(check([record], streams, in_hand_max=9)) == {"invented": 2}
    record, streams = killed(order(3))
    assert figures(check([record], streams, in_hand_max=0)) == {"invented": 1}


def test_nothing_is_in_hand_amid_a_life() -> None:
    """What stands between two events of one process was in nobody's hand."""
    events = [order(1), order(2), order(3)]
    record = [events[0], events[2]]
    assert figures(check([record], shipped(events), in_hand_max=9)) == {"invented": 1}


def test_excused_events_may_be_missing() -> None:
    """What was in no stream when the journal lost it is excused; nothing else is."""
    events = [order(1), order(2), fill(3)]
    streams = shipped(events[:1])
    gone = checker.missing([events], streams)
    assert gone == {"e2", "f3"}
    assert check([events], streams, excused=gone).is_clean
    assert figures(check([events], streams, excused={"f3"})) == {"lost": 1}


def test_a_named_hole_is_no_gap() -> None:
    """Numbers that exec:control names will never come; those it does not name are missing."""
    events = [order(number) for number in range(1, 7)]
    streams = shipped(events)
    del streams["orders"][1:4]
    reason = f"x:exec:orders {PRODUCER} 2-3"
    streams["control"].append(Found(PRODUCER, 1, 50, ("base", reason)))
    holes = checker.holes(streams["control"], {"x:exec:orders": "orders"})
    assert figures(check([events], streams, holes=holes)) == {"lost": 3, "gaps": 1}


# Two records, two threads.


def test_each_record_has_its_own_order() -> None:
    """Of two daemons one may ship its rest behind the other's; a swap within one is found."""
    first, second = [order(1), order(2)], [order(3), order(4)]
    entries = [*shipped(second, "T.b.1")["orders"], *shipped(first)["orders"]]
    assert check([first, second], {"orders": entries}).is_clean
    entries[2], entries[3] = entries[3], entries[2]
    assert figures(check([first, second], {"orders": entries})) == {"reordered": 1}


def test_two_threads_have_no_order() -> None:
    """A timer's thread and the loop's emit beside each other."""
    events = [order(1), order(2)._replace(thread=2), order(3)]
    shuffled = [events[1], events[0], events[2]]
    assert check([events], shipped(shuffled)).is_clean
    assert figures(check([events], shipped([events[2], events[1], events[0]]))) == {"reordered": 1}


# What is told again.


def test_a_fill_told_again_is_expected_once() -> None:
    """With `once` the first of two reports of a fill is expected, and the second is a double."""
    record = [fill(1), order(2, "canceled"), fill(1, "f9", life=1), order(3, life=1)]
    assert check([record], shipped([record[0], record[1], record[3]]), once=True).is_clean
    assert figures(check([record], shipped(record), once=True)) == {"doubled": 2}
    assert check([record], shipped(record)).is_clean


def test_an_end_told_again_is_expected_once() -> None:
    """So is the end of an order, while any other state may come again."""
    ended = order(1, "canceled")
    again = Event(1, "e9", (("orders", ("e9", *ended.entries[0][1][1:])),))
    assert check([[ended, again]], shipped([ended]), once=True).is_clean
    accepted = order(1)
    once_more = Event(1, "e9", (("orders", ("e9", *accepted.entries[0][1][1:])),))
    verdict = check([[accepted, once_more]], shipped([accepted]), once=True)
    assert figures(verdict) == {"lost": 1}


def test_a_fill_in_hand_may_be_told_again() -> None:
    """It was written down, its process killed, and Nautilus reports it once more."""
    record = [order(1), fill(2, "f9", life=1), order(3, life=1)]
    streams = shipped([order(1), fill(2), order(3, life=1)])
    assert check([record], streams, once=True, in_hand_max=1).is_clean


def test_half_an_event_in_hand() -> None:
    """Killed between the two entries of a fill: the second one comes with the next report."""
    told, again = fill(2), fill(2, "f9", life=1)
    first = Event(0, told.id, told.entries[:1])
    second = Event(1, again.id, again.entries[1:])
    record = [order(1), again, order(3, life=1)]
    streams = shipped([order(1), first, second, order(3, life=1)])
    assert check([record], streams, once=True, in_hand_max=1).is_clean

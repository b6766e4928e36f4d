"""bridge/audit.py: what four places say of the same entries, and every way in which they differ."""

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pytest

from bridge.audit import LEDGER_KINDS, PLACES, Count, Evidence, Row
from bridge.core import contract
from bridge.reading import Item, digest_of, item_of
from tests.bridge.archives import entry, foreign
from tests.bridge.fills import fill, funding

PRODUCER: Final = "A.00000000.1"
STREAMS: Final = {"test:fills": "fills", "test:orders": "orders", "test:control": "control"}
HUGE: Final = 10**15 - 1


def _evidence(
    *,
    kind: str = "fills",
    mark: int = 0,
    named: Sequence[tuple[int, int]] = (),
    changed: dict[tuple[str, int], str] | None = None,
    **places: Iterable[int],
) -> Evidence:
    """Return what places say that hold these numbers; `changed` are prices by place and number."""
    prices = changed or {}
    evidence = Evidence(STREAMS)

    def items(place: str) -> list[Item]:
        found = [entry(seq, kind, price=prices.get((place, seq), "100.5")) for seq in places[place]]
        return found + [_hole(*span) for span in named if place == "redis"]

    if "journal" in places:
        _all(evidence.begin(items("journal")))
    if mark:
        evidence.marks[kind, PRODUCER] = mark
        evidence.ask((kind, PRODUCER), mark)
    for place in places:
        if place != "journal":
            _all(evidence.take(place, items(place)))
    return evidence


def _hole(first: int, last: int, producer: str = "A.00000000.2") -> Item:
    told = {"cause": "base", "reason": f"test:fills {PRODUCER} {first}-{last}"}
    return entry(first, "control", producer=producer, **told)


def _all(counts: Iterable[int]) -> int:
    *_, last = counts
    return last


def _row(**places: Any) -> Row:
    [row] = [each for each in _evidence(**places).rows() if each.kind != "control"]
    return row


def _wrong(row: Row) -> dict[str, tuple[int, int]]:
    return {
        name: (value.number, value.first)
        for name, value in row._asdict().items()
        if isinstance(value, Count) and value.number
    }


ALL: Final = range(1, 6)
EVERYWHERE: Final = dict.fromkeys(PLACES, ALL) | {"mark": 5}


def test_all_agree() -> None:
    """Four places that hold the same agree; each says how much it holds."""
    row = _row(**EVERYWHERE)
    assert (row.kind, row.producer, row.first, row.last) == ("fills", PRODUCER, 1, 5)
    assert row.held == dict.fromkeys(PLACES, 5)
    assert row.agrees
    assert _wrong(row) == {}


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        ({"redis": [1, 2, 4, 5]}, {"missing": (1, 3)}),
        ({"redis": [1, 2, 3]}, {"missing": (2, 4)}),
        ({"redis": [1, 2, 3], "mark": 3}, {"unshipped": (2, 4)}),
        ({"redis": [], "mark": 0}, {"unshipped": (5, 1)}),
        ({"ledger": [1, 2, 4]}, {"unbooked": (2, 3)}),
        ({"archive": [1, 2, 4]}, {"unarchived": (2, 3)}),
        ({"ledger": []}, {"unbooked": (5, 1)}),
        ({"redis": [1, 2, 3, 3, 4, 5, 5]}, {"doubled": (2, 3)}),
        ({"archive": [1, 2, 2, 2, 3, 4, 5]}, {"doubled": (1, 2)}),
        ({"changed": {("archive", 4): "7"}}, {"mismatches": (1, 4)}),
        ({"changed": {("journal", 2): "7", ("redis", 5): "8"}}, {"mismatches": (2, 2)}),
    ],
)
def test_one_thing_wrong(places: dict[str, Any], wrong: dict[str, tuple[int, int]]) -> None:
    """What one place lacks, doubles or has otherwise is named: how many, and the first of it."""
    row = _row(**EVERYWHERE | places)
    assert _wrong(row) == wrong
    assert not row.agrees


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [1, 3, 5])
def test_two_contents_under_one_number_in_one_place(place: str, number: int) -> None:
    """A place that has two contents for one number is wrong, whichever of them the others have."""
    evidence = _evidence(**EVERYWHERE)
    _all(evidence.take(place, [entry(number, price="8")]))
    [row] = evidence.rows()
    assert _wrong(row) == {"mismatches": (1, number)}
    assert row.held[place] == 5


def test_nothing_at_all() -> None:
    """Places without any entry are no rows, and nothing is wrong."""
    assert Evidence(STREAMS).rows() == []
    assert _evidence(**dict.fromkeys(PLACES, ())).rows() == []


@pytest.mark.parametrize(
    "forgot",
    [
        {"journal": [4, 5]},
        {"redis": [4, 5]},
        {"journal": [3, 4, 5], "redis": [5]},
        {"redis": []},
        {"journal": []},
        {"journal": [], "redis": []},
    ],
)
def test_what_is_forgotten_as_it_should_be(forgot: dict[str, Any]) -> None:
    """The journal and Redis drop what is old, up to all of it."""
    assert _wrong(_row(**EVERYWHERE | forgot)) == {}


def test_a_beginning_that_nobody_has() -> None:
    """Where ledger or archive should have all, the first numbers are lost, unless they are named;
    where nobody is to keep them, the row begins behind them."""
    held = {"journal": [8, 9], "redis": [7, 8, 9], "mark": 9}
    for keeper in ("ledger", "archive"):
        row = _row(**held, **{keeper: [7, 8, 9]})
        assert (row.first, row.last) == (1, 9)
        assert _wrong(row) == {"gaps": (6, 1)}
        assert _row(**held, **{keeper: [7, 8, 9]}, named=[(1, 6)]).agrees
    row = _row(kind="orders", **held, ledger=[])
    assert (row.first, row.last) == (7, 9)
    assert row.agrees


@pytest.mark.parametrize("place", ["ledger", "archive"])
def test_a_producer_only_in_redis(place: str) -> None:
    """A producer without a journal here is asked for by its mark."""
    row = _row(**{"redis": ALL, place: [1, 2, 3, 4], "mark": 5})
    assert row.held["journal"] is None
    assert list(_wrong(row).values()) == [(1, 5)]
    assert _row(**{"redis": ALL, place: ALL, "mark": 5}).agrees


def test_a_mark_beyond_what_is_anywhere() -> None:
    """Numbers that Redis was told of and that nobody has are gaps, also behind all others."""
    assert _wrong(_row(**EVERYWHERE | {"mark": 9})) == {"gaps": (4, 6)}
    assert _wrong(_row(redis=[], archive=[], mark=9)) == {"gaps": (9, 1)}


def test_what_nobody_is_to_keep() -> None:
    """Of a stream without readers, trimmed to nothing, there is nothing to compare."""
    row = _row(kind="orders", journal=[], redis=[], ledger=[], mark=9)
    assert row.agrees
    assert row.first > row.last


def test_the_ledger_is_asked_for_its_kinds_only() -> None:
    """Orders are not missing in the ledger."""
    row = _row(**EVERYWHERE | {"kind": "orders", "ledger": []})
    assert row.held["ledger"] is None
    assert row.agrees
    assert LEDGER_KINDS == ("fills", "exec_funding")


@pytest.mark.parametrize(
    ("named", "gaps"),
    [
        ([], (3, 3)),
        ([(3, 4), (6, 6)], None),
        ([(3, 6)], None),
        ([(1, 9)], None),
        ([(3, 3)], (2, 4)),
        ([(4, 4)], (2, 3)),
        ([(4, 6)], (1, 3)),
        ([(7, 9)], (3, 3)),
    ],
)
def test_holes(named: list[tuple[int, int]], gaps: tuple[int, int] | None) -> None:
    """A number that is nowhere is a gap, unless a hole in exec:control names it."""
    numbers = [1, 2, 5, 7, 8]
    row = _row(**dict.fromkeys(PLACES, numbers), mark=8, named=named)
    assert _wrong(row) == ({"gaps": gaps} if gaps else {})


def test_a_hole_that_the_archive_has() -> None:
    """Redis was set back and cannot have those entries again: it is not asked for them."""
    row = _row(journal=[5], redis=[1, 2, 5], ledger=ALL, archive=ALL, mark=5, named=[(3, 4)])
    assert row.agrees


def test_a_hole_is_read_from_any_place() -> None:
    """The streams forget; the journal or the archive may be the one that still names a hole."""
    for place in ("journal", "archive"):
        evidence = Evidence(STREAMS)
        _all(evidence.begin([entry(1), entry(4)] + [_hole(2, 3)] * (place == "journal")))
        _all(evidence.take("archive", [entry(1), entry(4)] + [_hole(2, 3)] * (place != "journal")))
        [row] = [each for each in evidence.rows() if each.kind == "fills"]
        assert row.agrees, place


@pytest.mark.parametrize(
    "reason",
    [
        *("", "test:fills", "a b c d e", "test:fills A 1-", "\udcff \udcff 1-2"),
        *(f"test:fills {PRODUCER} x-y", f"test:fills {PRODUCER} 4-3"),
        f"test:fills {PRODUCER} 3-{'9' * 40}",
    ],
)
def test_a_hole_that_says_nothing(reason: str) -> None:
    """What is no hole excuses nothing, whatever somebody writes into exec:control."""
    evidence = _evidence(**dict.fromkeys(PLACES, (1, 2, 4)))
    item = _hole(3, 3)
    fields = [reason.encode(errors="surrogateescape") if b"3-3" in f else f for f in item.fields]
    _all(evidence.take("redis", [item._replace(fields=fields)]))
    [row] = evidence.rows()
    assert _wrong(row) == {"gaps": (1, 3)}


@pytest.mark.parametrize(
    "producer", ["B.00000000.1", "A.00000001.1", "A.00000000", "A", "x", "A.00000000.1.1", "A.00.x"]
)
def test_a_hole_that_somebody_else_names(producer: str) -> None:
    """A hole excuses only what the same producer has numbered, under whatever incarnation."""
    evidence = _evidence(**dict.fromkeys(PLACES, (1, 2, 4)), mark=4)
    _all(evidence.take("redis", [_hole(3, 3, producer)]))
    [row] = [each for each in evidence.rows() if each.kind == "fills"]
    assert _wrong(row) == {"gaps": (1, 3)}
    assert evidence.named == {}


def test_a_hole_of_a_producer_without_incarnation() -> None:
    """Names that are no producer's of the bridge are the same only as a whole."""
    for sayer, count in (("y", 0), ("x", 1)):
        evidence = Evidence(STREAMS)
        hole = entry(1, "control", producer=sayer, cause="base", reason="test:fills x 2-3")
        _all(evidence.take("redis", [hole]))
        assert len(evidence.named) == count


def test_the_bridge_names_holes_as_they_are_read() -> None:
    """What `contract.hole` writes is understood."""
    evidence = Evidence(STREAMS)
    told = contract.hole("test:fills", PRODUCER, 2, 3, 0)
    fields = dict(zip(contract.STREAMS["control"].names, told.values, strict=True))
    named = entry(1, "control", producer="A.00000000.2", **fields)
    _all(evidence.begin([entry(1), entry(4), named]))
    assert all(row.agrees for row in evidence.rows())


def test_newer_entries_are_not_compared() -> None:
    """What came while the audit read is counted, and no disagreement."""
    evidence = _evidence(**EVERYWHERE | {"redis": range(1, 9), "archive": range(1, 8)})
    assert all(row.agrees for row in evidence.rows())
    assert evidence.newer == 3 + 2
    _all(evidence.take("redis", [entry(1, producer="new.00000000.1")]))
    assert len(evidence.rows()) == 1


def test_newer_by_the_stream() -> None:
    """A number that nobody told of is asked for when its entry was there as the audit began."""
    for places in (["redis"], ["redis", "archive"], ["archive"]):
        evidence = _evidence(**EVERYWHERE)
        evidence.last_ids["fills"] = "1007-0"  # that of number 7
        for place in places:
            _all(evidence.take(place, [entry(8), entry(7), entry(6)]))
        [row] = evidence.rows()
        assert row.last == 7
        assert evidence.newer == len(places)
        assert _wrong(row)["unbooked"] == (2, 6)
        assert ("unarchived" in _wrong(row)) == ("archive" not in places)


def test_newer_without_an_id() -> None:
    """What a reader took from a history while the audit read is newer, too."""
    evidence = _evidence(**EVERYWHERE)
    evidence.last_ids["fills"] = "1007-0"
    _all(evidence.take("archive", [entry(6)._replace(id="")]))
    assert evidence.newer == 1
    assert all(row.agrees for row in evidence.rows())


def _booked(evidence: Evidence, item: Item, **changes: str) -> None:
    """Note an entry as a ledger does that has some of its fields otherwise."""
    told = dict(zip(item.fields[::2], item.fields[1::2], strict=True))
    told |= {name.encode(): text.encode() for name, text in changes.items()}
    names = contract.STREAMS[item.kind].names
    values = [told.get(name.encode(), b"") for name in names]
    key = (item.kind, item.producer)
    evidence.open("ledger")
    evidence.note("ledger", key, item.seq, item.id, digest_of(item.fields), values)


@pytest.mark.parametrize("item", [fill(1), funding(1), entry(1, fee="7")], ids=str)
@pytest.mark.parametrize("place", ["journal", "redis", "archive"])
def test_what_the_ledger_keeps(item: Item, place: str) -> None:
    """The fields in the ledger are compared, in whatever form the entry was; its digest alone
    proves nothing."""
    name = contract.STREAMS[item.kind].names[1]
    for changes, wrong in (({}, {}), ({name: "X"}, {"mismatches": (1, 1)})):
        evidence = Evidence(STREAMS)
        evidence.ask((item.kind, item.producer), 1)
        _booked(evidence, item, **changes)
        _all(evidence.take(place, [item]))
        [row] = evidence.rows()
        assert _wrong(row) == wrong


def test_what_the_ledger_keeps_of_others() -> None:
    """An entry of somebody else's is known by its digest, and its fields are compared."""
    others = [foreign("1-1"), foreign("1-2", price="9"), foreign("1-3", "exec_funding", rate="1")]
    evidence = Evidence(STREAMS)
    for item in others:
        _booked(evidence, item)
    _all(evidence.take("redis", others))
    assert evidence.changed_foreign() == {"fills": 0, "exec_funding": 0}
    _booked(evidence, foreign("1-4"))  # which nobody has any more
    assert not any(evidence.changed_foreign().values())
    _booked(evidence, others[1], price="8")
    _all(evidence.take("archive", [others[1]]))
    assert evidence.changed_foreign() == {"fills": 1, "exec_funding": 0}


def test_a_forged_number() -> None:
    """A number that nobody counts to costs no memory; the gap before it is told."""
    evidence = _evidence(**EVERYWHERE)
    evidence.ask(("fills", PRODUCER), HUGE)
    for place in PLACES[1:]:
        _all(evidence.take(place, [entry(HUGE)]))
    [row] = evidence.rows()
    assert _wrong(row) == {"gaps": (HUGE - 6, 6)}
    assert _wrong(_row(**EVERYWHERE | {"mark": HUGE})) == {"gaps": (HUGE - 5, 6)}
    assert _row(**EVERYWHERE | {"mark": HUGE, "named": [(6, HUGE)]}).agrees


def test_entries_of_others_are_only_counted() -> None:
    """Somebody else's entries have no number to compare by."""
    evidence = _evidence(**EVERYWHERE)
    _all(evidence.take("redis", [foreign("1-1"), foreign("1-2")]))
    _all(evidence.take("archive", [foreign("1-1", "orders")]))
    assert evidence.foreign == {("redis", "fills"): 2, ("archive", "orders"): 1}
    assert [row.agrees for row in evidence.rows()] == [True]


def test_producers_and_streams_are_apart() -> None:
    """Each producer in each stream is a row of its own; what is wrong with one stays with it."""
    evidence = Evidence(STREAMS)
    keys = [(kind, f"{name}.00000000.1") for kind in ("fills", "orders") for name in "AB"]
    _all(evidence.begin([entry(1, *key) for key in keys]))
    _all(evidence.take("archive", [entry(1, *key) for key in keys[1:]]))
    rows = evidence.rows()
    assert [(row.kind, row.producer) for row in rows] == keys
    assert [row.agrees for row in rows] == [False, True, True, True]


def test_the_order_does_not_matter() -> None:
    """A place is read forth or back, or in any order: the verdict is the same."""
    chance = random.Random(7)
    numbers = chance.choices(range(1, 60), k=80)
    kept = {place: sorted(set(numbers)) for place in ("journal", "ledger", "archive")}
    rows = []
    for _ in range(3):
        rows.append(_row(**kept, redis=numbers, mark=60, changed={("redis", numbers[0]): "1"}))
        chance.shuffle(rest := numbers[1:])
        numbers = [numbers[0], *rest]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0].doubled.number == sum([numbers.count(each) > 1 for each in set(numbers)])


def test_random_places_by_the_definition() -> None:
    """Places at random, judged as the definitions say, number by number."""
    for seed in range(200):
        chance = random.Random(seed)
        last = chance.randint(1, 12)
        held = {place: {n for n in range(1, last + 1) if chance.random() < 0.7} for place in PLACES}
        mark, name = chance.randint(0, last), chance.randint(1, last)
        named = [(name, chance.randint(name, last))] if chance.random() < 0.5 else []
        evidence = _evidence(**held, mark=mark, named=named)
        ends = max([mark, *held["journal"]])
        rows = [row for row in evidence.rows() if row.kind == "fills"]
        assert len(rows) == (ends > 0), seed
        for row in rows:
            assert _wrong(row) == _judged(held, mark, ends, named), (seed, held, mark, named)


def _judged(
    held: dict[str, set[int]], mark: int, ends: int, named: list[tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    asked = {place: {n for n in numbers if n <= ends} for place, numbers in held.items()}
    anywhere = set().union(*asked.values())
    excused = {n for first, last in named for n in range(first, last + 1)}
    lacks = {place: anywhere - numbers for place, numbers in asked.items()}
    unshipped = {n for n in lacks["redis"] & asked["journal"] if n > mark}
    missing = {n for n in lacks["redis"] if asked["redis"] and n > min(asked["redis"])}
    found = {
        "gaps": set(range(1, ends + 1)) - anywhere - excused,
        "unshipped": unshipped,
        "missing": missing - unshipped - excused,
        "unbooked": lacks["ledger"],
        "unarchived": lacks["archive"],
    }
    return {name: (len(each), min(each)) for name, each in found.items() if each}


def test_an_entry_without_a_producer_is_nobodys() -> None:
    """The tail decides whose an entry is; a number beyond 15 digits is nobody's."""
    evidence = _evidence(**EVERYWHERE)
    fields = [*entry(1).fields]
    fields[-5] = b"1" * 16
    _all(evidence.take("redis", [item_of("fills", "9-9", fields)]))
    assert evidence.foreign == {("redis", "fills"): 1}


def test_progress() -> None:
    """A place tells now and then, and at its end, how many entries it has read."""
    evidence = Evidence(STREAMS)
    assert list(evidence.begin(entry(seq) for seq in range(1, 25_001))) == [10_000, 20_000, 25_000]

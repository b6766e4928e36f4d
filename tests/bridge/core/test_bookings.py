"""bridge/core/bookings.py: what counts, in which order; by hand."""

import itertools
from decimal import Decimal
from typing import Any

import pytest

from bridge.core.bookings import Booked, State, book, in_order
from bridge.core.fills import Fill, key_of
from tests.bridge.core.books import (
    BNB,
    PAID_IN_BNB,
    SECOND,
    books,
    fill,
    lots_of,
    own,
    provisional,
    realized,
    view,
)

D = Decimal


def after(*fills: Fill) -> Booked:
    """Return what fills come to, whatever the order in which they are given."""
    booked = book(fills)
    for arrival in itertools.islice(itertools.permutations(fills), 200):
        assert view(book(arrival)) == view(booked)
    return booked


# --- the order


def test_a_producers_fills_stay_in_their_order() -> None:
    """A producer's clock may go back: its fills count by number, at the latest time told so far."""
    first, second, third = fill(1, 1, 10, ts_ns=500), fill(2, 1, 11, ts_ns=300), fill(3, 1, 12)

    line = in_order([third, second, first])

    assert [each.fill_id for _, each in line] == ["f1", "f2", "f3"]
    assert [key.at_ns for key, _ in line] == [500, 500, 3 * SECOND]
    assert book([second, first]).front.told == {"P": (2, 500)}


def test_two_producers_merge_by_time() -> None:
    """Fills of different producers count by time, and at one time by the producers' names."""
    fills = [
        fill(1, 1, 10, ts_ns=100), fill(2, 1, 11, ts_ns=300),
        fill(3, 1, 12, ts_ns=200, producer="Q"), fill(4, 1, 13, ts_ns=300, producer="Q"),
    ]  # fmt: skip

    for arrival in itertools.permutations(fills):
        assert [each.fill_id for _, each in in_order(arrival)] == ["f1", "f3", "f2", "f4"]


def test_a_foreign_fill_stands_at_its_own_time() -> None:
    """Nothing orders the fills of somebody else's but their times and ids."""
    foreign = {"producer": "", "seq": 0}
    fills = [
        fill(9, 1, 10, ts_ns=300, **foreign), fill(8, 1, 10, ts_ns=100, **foreign),
        fill(7, 1, 10, ts_ns=100, **foreign), fill(1, 1, 10, ts_ns=200),
    ]  # fmt: skip

    assert [each.fill_id for _, each in in_order(fills)] == ["f7", "f8", "f1", "f9"]


# --- provisional fills


def test_a_provisional_fill_counts_until_the_venues_own_reach_it() -> None:
    """Its own wait; when they have all of its quantity they count instead, at their prices."""
    made_up = provisional(1, 5, 100, "O", fee=D(1))
    one, two = own(2, 3, 98, "O", at=1, fee=D("0.3")), own(3, 2, 99, "O", at=1, fee=D("0.2"))

    alone = after(made_up)
    assert (lots_of(alone.book), alone.states) == ([("f1", 5, 100)], {})

    partly = after(made_up, one)
    assert (lots_of(partly.book), partly.states) == ([("f1", 5, 100)], {"f2": State.WAITING})
    assert [cost.amount for cost in partly.costs] == [1]

    whole = after(made_up, one, two)
    assert lots_of(whole.book) == [("f2", 3, 98), ("f3", 2, 99)]
    assert whole.states == {"f1": State.REPLACED}
    assert [cost.amount for cost in whole.costs] == [D("0.3"), D("0.2")]


def test_they_count_in_its_place() -> None:
    """What was sold in between is taken from the fills that replace it, not from later ones."""
    booked = after(
        provisional(1, 5, 100, "O"), fill(2, 1, 200), fill(3, -5, 110), own(4, 5, 90, "O", at=1)
    )

    assert realized(booked.gains) == 5 * (110 - 90)
    assert [gain.lot for gain in booked.gains] == ["f4"]
    assert lots_of(booked.book) == [("f2", 1, 200)]


@pytest.mark.parametrize(
    "other",
    [
        fill(2, 5, 98, order="O"),  # executed later
        own(2, 5, 98, "other", at=1),
        own(2, -5, 98, "O", at=1),
        provisional(2, 5, 98, "O"),
        own(1, 5, 98, "O", at=1, producer="A"),  # told by another producer, before it
    ],
    ids=["later", "another order", "other side", "provisional", "told before"],
)
def test_other_fills_count_beside_it(other: Fill) -> None:
    """A new execution, or one of another order, replaces nothing."""
    booked = after(provisional(1, 5, 100, "O", fill_id="made up"), other)

    assert booked.states == {}
    assert len(booked.book.lots) + len(booked.gains) == 2 - (other.side == "SELL")


def test_the_next_incarnation_replaces_what_the_last_made_up() -> None:
    """A journal that lost its end goes on under another incarnation, behind what it told before."""
    made_up = provisional(7, 5, 100, "O", producer="P.0a1b2c3d.9")
    booked = after(made_up, own(1, 5, 98, "O", at=1, producer="P.0a1b2c3d.10"))

    assert lots_of(booked.book) == [("f1", 5, 98)]
    assert booked.states == {"f7": State.REPLACED}


def test_without_an_order_nothing_is_replaced() -> None:
    """A provisional fill of no order counts for good: nothing says which fills are its own."""
    booked = after(provisional(1, 5, 100, ""), own(2, 5, 98, "", at=1))

    assert (booked.states, booked.book.position) == ({}, 10)


def test_two_provisional_fills_are_replaced_one_by_one() -> None:
    """The venue's own go to the oldest one first."""
    made_up = provisional(1, 5, 100, "O"), provisional(2, 3, 110, "O")
    booked = after(*made_up, own(3, 5, 98, "O", at=1))
    assert (lots_of(booked.book), booked.states) == (
        [("f3", 5, 98), ("f2", 3, 110)],
        {"f1": State.REPLACED},
    )

    booked = after(*made_up, own(3, 5, 98, "O", at=1), own(4, 3, 109, "O", at=2))
    assert lots_of(booked.book) == [("f3", 5, 98), ("f4", 3, 109)]
    assert booked.states == {"f1": State.REPLACED, "f2": State.REPLACED}


def test_a_fill_that_reaches_into_two_waits_for_both() -> None:
    """Else what it has of the second would count twice: in it, and in the provisional fill."""
    made_up = provisional(1, 5, 100, "O"), provisional(2, 3, 110, "O")
    three, four = own(3, 3, 98, "O", at=1), own(4, 4, 99, "O", at=1)

    booked = after(*made_up, three, four)
    assert booked.book.position == 8
    assert booked.states == {"f3": State.WAITING, "f4": State.WAITING}

    booked = after(*made_up, three, four, own(5, 1, 97, "O", at=1))
    assert lots_of(booked.book) == [("f3", 3, 98), ("f4", 4, 99), ("f5", 1, 97)]
    assert booked.states == {"f1": State.REPLACED, "f2": State.REPLACED}


def test_a_chain_of_them_is_replaced_at_once() -> None:
    """A first one does not count in a fill that reaches into a second, which waits for a third."""
    made_up = [provisional(number, 2, 100, "O") for number in (1, 2, 3)]
    three, two = own(4, 3, 98, "O", at=1), own(5, 2, 98, "O", at=1)

    booked = after(*made_up, three, two)
    assert booked.book.position == 6
    assert booked.states == {"f4": State.WAITING, "f5": State.WAITING}

    booked = after(*made_up, three, two, own(6, 1, 98, "O", at=1))
    assert [lot.fill_id for lot in booked.book.lots] == ["f4", "f5", "f6"]


def test_one_that_was_replaced_takes_no_more() -> None:
    """What comes behind waits for the next provisional fill alone."""
    made_up = provisional(1, 5, 100, "O"), provisional(2, 3, 110, "O")

    booked = after(*made_up, own(3, 5, 98, "O", at=1), own(4, 2, 97, "O", at=1))

    assert [lot.fill_id for lot in booked.book.lots] == ["f3", "f2"]
    assert booked.states == {"f1": State.REPLACED, "f4": State.WAITING}


def test_more_than_its_quantity_counts() -> None:
    """What the venue's own have beyond the provisional fill is real, and so is what follows, in
    its own place."""
    booked = after(
        provisional(1, 5, 100, "O"), own(2, 7, 98, "O", at=1), fill(3, 1, 50),
        own(4, 1, 97, "O", at=1),
    )  # fmt: skip

    assert [lot.fill_id for lot in booked.book.lots] == ["f2", "f3", "f4"]
    assert (booked.book.position, booked.states) == (9, {"f1": State.REPLACED})


# --- fees that are paid from other books


def test_a_fee_in_a_third_currency_takes_its_lots() -> None:
    """BNB that pays a fee is sold at what the fee is worth, out of the spot book of that quote."""
    bought = fill(1, 2, 600, **BNB)
    paying = fill(2, 1, 50_000, fee=D("0.5"), fee_quote=D(310), **PAID_IN_BNB)

    booked = books([paying, bought])

    holder = booked[key_of(bought)]
    assert lots_of(holder.book) == [("f1", D("1.5"), 600)]
    assert [(gain.fill_id, gain.pnl, gain.is_payment) for gain in holder.gains] == [
        ("f2", 10, True)
    ]
    assert (holder.costs, [cost.amount for cost in booked[key_of(paying)].costs]) == ([], [310])


def test_without_lots_a_fee_is_unlotted() -> None:
    """A fee that was paid before anything was bought takes nothing; it costs all the same."""
    paying = fill(1, 1, 50_000, fee=D("0.5"), fee_quote=D(300), **PAID_IN_BNB)
    bought = fill(2, 2, 600, **BNB)

    booked = books([paying, bought])
    assert booked[key_of(bought)].book.unlotted == D("0.5")
    assert booked[key_of(bought)].book.position == 2
    assert [cost.amount for cost in booked[key_of(paying)].costs] == [300]
    assert list(books([paying])) == [key_of(paying)]


@pytest.mark.parametrize(
    "other",
    [
        {"account": "other"}, {"venue": "other"}, {"quote": "USDC", "symbol": "BNBUSDC"},
        {"symbol": "BNBUSDT-PERP"}, {"inverse": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_fee_is_not_paid_from_elsewhere(other: dict[str, Any]) -> None:
    """Only a spot book of the same account, venue and quote currency holds what a fee takes."""
    bought = fill(1, 2, 600, **(BNB | other))
    paying = fill(2, 1, 50_000, fee=D("0.5"), fee_quote=D(310), **PAID_IN_BNB)

    assert books([bought, paying])[key_of(bought)].book.position == 2


def test_the_first_of_two_symbols_pays() -> None:
    """Where two symbols name one pair, a fee is taken once."""
    one, two = fill(1, 2, 600, **BNB), fill(2, 2, 600, **(BNB | {"symbol": "BNB/USDT"}))
    paying = fill(3, 1, 50_000, fee=D("0.5"), fee_quote=D(310), **PAID_IN_BNB)

    booked = books([one, two, paying])

    assert [booked[key_of(each)].book.position for each in (one, two)] == [2, D("1.5")]


def test_a_fee_that_does_not_count_is_not_paid() -> None:
    """The fee of a provisional fill is paid as long as that counts, then those of its own."""
    bought = fill(1, 2, 600, **BNB)
    paid = {"fee_quote": D(300), **PAID_IN_BNB}
    made_up = provisional(2, 5, 100, "O", fee=D("0.5"), **paid)
    one, two = (own(n, q, 98, "O", at=2, fee=D("0.1"), **paid) for n, q in ((3, 3), (4, 2)))

    def left(*fills: Fill) -> Decimal:
        return books([bought, *fills])[key_of(bought)].book.position

    assert left(made_up) == left(made_up, one) == D("1.5")
    assert left(made_up, one, two) == D("1.8")


def test_a_fee_stands_in_its_producers_order() -> None:
    """A purchase that was told after a fee does not pay it, whatever the clock says."""
    paying = fill(1, 1, 50_000, fee=D(1), fee_quote=D(600), ts_ns=500, **PAID_IN_BNB)
    bought = fill(2, 2, 600, ts_ns=400, **BNB)

    assert books([paying, bought])[key_of(bought)].book.unlotted == 1
